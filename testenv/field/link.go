// SPDX-License-Identifier: Apache-2.0

package field

func linkCases() []Case { return nil }
