# SPDX-License-Identifier: Apache-2.0
# Sets an interface (its name) down and up again by ioctl, until it is killed.
use strict;
use warnings;

my ($name, $half) = @ARGV; # half a period, seconds
socket(my $s, 2, 2, 0) or die "socket: $!"; # AF_INET, SOCK_DGRAM
$| = 1;

sub set {
	my ($up) = @_;
	my $request = pack("a16x24", $name); # struct ifreq
	ioctl($s, 0x8913, $request) or die "SIOCGIFFLAGS: $!";
	my $flags = unpack("x16s", $request);
	$flags = $up ? $flags | 1 : $flags & ~1;
	$request = pack("a16sx22", $name, $flags);
	ioctl($s, 0x8914, $request) or die "SIOCSIFFLAGS: $!";
	print "turn\n";
}

print "ready\n";
while (1) {
	set(0);
	select(undef, undef, undef, $half);
	set(1);
	select(undef, undef, undef, $half);
}
