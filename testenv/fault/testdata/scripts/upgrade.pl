# SPDX-License-Identifier: Apache-2.0
# Kills a process and deletes the routes that it kept.
use strict;
use warnings;

my ($pid, @routes) = @ARGV;
$| = 1;
print "ready\n";
kill("KILL", $pid) or die "kill $pid: $!";
for my $route (@routes) {
	system("ip", "route", "del", $route) == 0 or die "ip route del $route: $?";
}
