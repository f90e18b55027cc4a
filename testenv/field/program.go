// SPDX-License-Identifier: Apache-2.0

package field

func programCases() []Case { return nil }
