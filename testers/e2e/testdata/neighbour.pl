#!/usr/bin/perl
# Answers who-has requests for 192.0.2.10 with the hardware address of nobody.
use strict;
use warnings;

my $index;
until ($index) {
	if (open my $in, '<', '/sys/class/net/ens192/ifindex') { $index = <$in> + 0 }
	select undef, undef, undef, 0.2;
}
socket my $wire, 17, 3, 0x0608 or die "socket: $!";           # AF_PACKET, SOCK_RAW, ETH_P_ARP as on the wire
bind $wire, pack 'S n i S C C a8', 17, 0x0806, $index, 0, 0, 0, '' or die "bind: $!";
exit 0 if fork;

my $nobody = "\x02\x00\x00\x00\x00\x66";
my $address = pack 'C4', 192, 0, 2, 10;
while (1) {
	defined recv $wire, my $frame, 2048, 0 or next;           # an interface that goes down
	next if length $frame < 42;
	my ($from, $operation, $sender, $target) = unpack 'x6 a6 x8 n x6 a4 x6 a4', $frame;
	next if $operation != 1 || $target ne $address;
	send $wire, $from . $nobody . "\x08\x06" . "\x00\x01\x08\x00\x06\x04\x00\x02" . $nobody . $address . $from . $sender, 0;
}
