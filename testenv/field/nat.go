// SPDX-License-Identifier: Apache-2.0

package field

func natCases() []Case { return nil }
