# SPDX-License-Identifier: Apache-2.0
# Stands for a program that keeps the node's network: it only has its name.
$| = 1;
print "ready\n";
sleep while 1;
