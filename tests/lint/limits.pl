#!/usr/bin/perl
# Sizes: files up to 1,000 lines, functions up to 80, parameters up to 6. The mixt_error * that
# nearly every function carries last is not counted, nor are the parameters of the innermost kernels
# of src/backend, which live in registers.
use strict;
use warnings;

my ($file_lines, $function_lines, $parameters) = (1000, 80, 6);
# Public calls that name each thing they work on rather than a struct made for one call.
my %granted = map { $_ => 1 } qw(mixt_evaluate mixt_trace_write mixt_trainer_create mixt_sample mixt_log_probabilities);
# Called by libmicrohttpd, with what it gives.
$granted{on_request} = 1;
my $bad = 0;

sub complain {
    print "$_[0]\n";
    $bad++;
}

# Parameters of a signature: commas at the first level of its last parenthesis group.
sub count_parameters {
    my ($text) = @_;
    $text =~ s/__attribute__\s*\(\(.*?\)\)|\bMIXT_PRINTF\([^)]*\)//g;
    return 0 unless $text =~ /\((.*)\)\s*$/s;
    my $list = $1;
    $list =~ s/,\s*mixt_error \*\w+\s*$//;
    my ($depth, $count) = (0, 1);
    for my $c (split //, $list) {
        $depth++ if $c eq '(';
        $depth-- if $c eq ')';
        $count++ if $c eq ',' && $depth == 0;
    }
    return $count;
}

for my $file (sort split /\n/, `git ls-files '*.c' '*.h'`) {
    open my $in, '<', $file or next;
    my @lines = <$in>;
    close $in;
    complain("$file: " . @lines . " lines, more than $file_lines") if @lines > $file_lines;
    my @head;
    my $start;
    for my $i (0 .. $#lines) {
        my $line = $lines[$i];
        if (defined $start) {
            if ($line =~ /^\}/) {
                my $length = $i - $start + 1;
                complain("$file:" . ($start + 1) . ": a function of $length lines, more than $function_lines")
                    if $length > $function_lines;
                undef $start;
                @head = ();
            }
            next;
        }
        if ($line =~ /^\{\s*$/ && @head) {
            my $signature = join ' ', @head;
            $signature =~ s/\s+/ /g;
            $signature =~ s/\s*\bMIXT_PRINTF\([^)]*\)//;
            if ($signature =~ /\)\s*$/) {
                my $count = count_parameters($signature);
                my ($name) = $signature =~ /(\w+)\s*\(/;
                complain("$file:" . ($i + 1) . ": $name has $count parameters, more than $parameters")
                    if $count > $parameters && !$granted{$name} && $file !~ m{^src/backend/};
                $start = $i - @head;
            }
            next;
        }
        if ($line =~ /^\s*$/ || $line =~ /^[#\/}]/ || $line =~ /;\s*$/ || $line =~ /\*\/\s*$/) {
            @head = ();
        } else {
            push @head, $line;
        }
    }
}
exit($bad > 0);
