// SPDX-License-Identifier: Apache-2.0

// Package spelling tells how far a word is from one that was meant.
package spelling

// Distance counts the letters to change, add or drop to make one word of the
// other (Levenshtein).
func Distance(x, y string) int {
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(x) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(y) {
			cost := diagonal
			if x[i] != y[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(y)]
}
