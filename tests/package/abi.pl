#!/usr/bin/perl
# abi.pl [HEADER]: reads the public header (header.pl), or HEADER, and prints a C program that prints its interface: the size of every struct,
# offset and size of every member but `reserved`, the value of every enumerator.
use strict;
use warnings;

my ($mode, $source) = @ARGV ? ('<', $ARGV[0]) : ('-|', 'tests/package/header.pl');
open my $in, $mode, $source or die "$source: $!\n";
my $header = do { local $/; <$in> };
close $in or die "$source: not read\n";
my $text = $header;
$text =~ s{/\*.*?\*/}{}gs;
$text =~ s{^\s*#(?:[^\n]*\\\n)*[^\n]*$}{}gm;

print "#include <stdio.h>\n#include \"mixt.h\"\n\nint main(void)\n{\n";
while ($text =~ /typedef struct (\w+) \{(.*?)\n\} \1;/gs) {
    my ($type, $body) = ($1, $2);
    print "    printf(\"$type %zu\\n\", sizeof($type));\n";
    for my $declaration (split /;/, $body) {
        next if $declaration !~ /\S/;
        my @names = $declaration =~ /\(\*(\w+)\)/ ? ($1)
                  : map { /(\w+)\s*(?:\[[^\]]*\])?\s*$/ ? $1 : die "$type: $declaration\n" } split /,/, $declaration;
        for my $name (grep { $_ ne 'reserved' } @names) {
            print "    printf(\"$type.$name %zu %zu\\n\", offsetof($type, $name), sizeof((($type *)0)->$name));\n";
        }
    }
}
while ($text =~ /enum\s*(?:\w+\s*)?\{(.*?)\}/gs) {
    for my $enumerator (split /,/, $1) {
        print "    printf(\"$1 %d\\n\", (int)$1);\n" if $enumerator =~ /^\s*(MIXT_\w+)\b(?!\()/;
    }
}
# The statuses are a list of their own.
print "    printf(\"MIXT_$1 %d\\n\", (int)MIXT_$1);\n" while $header =~ /^\s+X\((\w+), "/gm;
print "    return 0;\n}\n";
