# SPDX-License-Identifier: Apache-2.0
# Sets an interface (its index) down and up again by netlink, until it is killed.
use strict;
use warnings;

my ($index, $half) = @ARGV; # half a period, seconds
socket(my $s, 16, 3, 0) or die "netlink: $!"; # AF_NETLINK, SOCK_RAW, NETLINK_ROUTE
$| = 1;

sub set {
	my ($flags) = @_;
	# struct ifinfomsg; RTM_NEWLINK is 16, NLM_F_REQUEST | NLM_F_ACK 5, IFF_UP 1
	my $body = pack("CCSlLL", 0, 0, 0, $index, $flags, 1);
	my $message = pack("LSSLL", 16 + length $body, 16, 5, 1, 0) . $body;
	send($s, $message, 0, pack("SSLL", 16, 0, 0, 0)) or die "send: $!";
	sysread($s, my $answer, 4096) or die "answer: $!";
	my $errno = unpack("x16l", $answer);
	die "set the interface: errno $errno" if $errno;
	print "turn\n";
}

print "ready\n";
while (1) {
	set(0);
	select(undef, undef, undef, $half);
	set(1);
	select(undef, undef, undef, $half);
}
