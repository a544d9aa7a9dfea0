#!/usr/bin/perl
# header.pl: prints the public header as a program gets it: include/mixt.h with its chapters
# (include/mixt/NAME.h) in place of the lines that include them.
use strict;
use warnings;

sub text_of {
    my ($file) = @_;
    open my $in, '<', "include/$file" or die "include/$file: $!\n";
    local $/;
    return scalar <$in>;
}

my $text = text_of('mixt.h');
$text =~ s{^#include "(mixt/\w+\.h)"\n}{text_of($1)}gem;
print $text;
