#!/usr/bin/perl
# Texts of numbers are the same in every locale: in src/ only core/number.c formats and reads
# fractions (with the C locale's point), only formats/json.c has jansson read or write a text, and
# letters are compared as ASCII.
use strict;
use warnings;

my %owner = (
    'vsnprintf' => 'src/core/number.c',
    'vsprintf' => 'src/core/number.c',
    'strtod' => 'src/core/number.c',
    'strtof' => 'src/core/number.c',
    'strtold' => 'src/core/number.c',
    'atof' => 'src/core/number.c',
    'localeconv' => 'src/core/number.c',
    'uselocale' => 'src/core/number.c',
    map { $_ => 'src/formats/json.c' }
        qw(json_loads json_loadb json_loadf json_load_file json_load_callback json_dumps json_dumpb
        json_dumpf json_dump_file json_dump_callback),
);
my $letters = join '|', qw(strcasecmp strncasecmp tolower toupper isalpha isalnum isupper islower isspace isprint ispunct);
my $bad = 0;

for my $file (split /\n/, `git ls-files 'src/*.c' 'src/*.h'`) {
    open my $in, '<', $file or next;
    local $/;
    my $text = <$in>;
    close $in;
    $text =~ s{(/\*.*?\*/)}{my $c = $1; $c =~ s/[^\n]/ /g; $c}gse;
    my $complain = sub {
        my ($place, $what) = @_;
        my $line = 1 + (substr($text, 0, $place) =~ tr/\n//);
        print "$file:$line: $what\n";
        $bad++;
    };
    while ($text =~ /\b(\w+)\s*\(/g) {
        $complain->($-[1], "$1 is for $owner{$1} alone") if exists $owner{$1} && $owner{$1} ne $file;
    }
    while ($text =~ /\b($letters)\s*\(/g) {
        $complain->($-[1], "$1 follows the locale; see core/utf8.h");
    }
    next if $file eq 'src/core/number.c';
    while ($text =~ /\b(?:s|sn|f|d)?(?:printf|scanf)\s*\(([^;]*);/g) {
        $complain->($-[0], 'a fraction in the locale\'s form; mixt_format writes a point')
            if $1 =~ /%[-+ #0]*(?:\d+|\*)?(?:\.(?:\d+|\*)?)?[lL]?[aefgAEFG]/;
    }
}
# The server never leaves the C locale; its texts are written and read in one place each all the same.
my %door = (
    'strtod' => 'serve/text.c',
    map { $_ => 'serve/json.c' }
        qw(json_loads json_loadb json_loadf json_load_file json_load_callback json_dumps json_dumpb
        json_dumpf json_dump_file json_dump_callback),
);
for my $file (split /\n/, `git ls-files 'serve/*.c' 'serve/*.h'`) {
    open my $in, '<', $file or next;
    while (<$in>) {
        while (/\b(\w+)\s*\(/g) {
            next if !exists $door{$1} || $door{$1} eq $file;
            print "$file:$.: $1 is for $door{$1} alone\n";
            $bad++;
        }
        if ($file ne 'serve/text.c' && /"[^"]*%[-+ #0]*(?:\d+|\*)?(?:\.(?:\d+|\*)?)?[lL]?[aefgAEFG]/) {
            print "$file:$.: a fraction; text_number writes one\n";
            $bad++;
        }
    }
    close $in;
}
exit($bad > 0);
