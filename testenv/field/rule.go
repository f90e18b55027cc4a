// SPDX-License-Identifier: Apache-2.0

package field

func ruleCases() []Case { return nil }
