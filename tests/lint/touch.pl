#!/usr/bin/perl
# Touch counts: a new family or command is one file, a router method or operator one plain file and
# one template (an operator's backward may have a second), and one row of a .def list. So no other
# file may know it by its symbols.
use strict;
use warnings;

my $bad = 0;

sub complain {
    print "$_[0]\n";
    $bad++;
}

sub rows {
    my ($file, $macro) = @_;
    open my $in, '<', $file or die "$file: $!\n";
    my @names = map { /^$macro\(\s*(\w+)/ ? $1 : () } <$in>;
    close $in;
    complain("$file: no rows of $macro") if !@names;
    return @names;
}

my %text;
for my $file (glob('src/*/*.[ch] src/*/*/*.[ch] cli/*.[ch]')) {
    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    $text{$file} = <$in>;
    $text{$file} =~ s{/\*.*?\*/}{}gs;
    close $in;
}

# Files whose code matches a pattern must be the given ones.
sub only_in {
    my ($what, $pattern, @homes) = @_;
    my %home = map { $_ => 1 } @homes;
    my $found = 0;
    for my $file (sort keys %text) {
        next if $text{$file} !~ $pattern;
        $home{$file} ? $found++ : complain("$file: knows $what");
    }
    complain("$what: nothing in @homes") if !$found;
}

# Families may share a GGUF architecture, whose name is then in each one's file.
my @families = rows('src/model/families.def', 'MIXT_FAMILY');
for my $name (@families) {
    only_in("the model family $name", qr/\bmixt_family_$name\b/, "src/model/$name.c");
    next if $name eq 'own'; # mixt's own family has the program's name
    only_in("the name of the family $name", qr/"$name"/, (map { "src/model/$_.c" } @families),
        grep { m{^src/tokenizer/} } keys %text); # kinds of tokenizers are called like families
}
for my $name (rows('src/router/methods.def', 'MIXT_ROUTER_METHOD')) {
    only_in("the router method $name", qr/\bmixt_${name}_(?:check|choose|gradient)\w*|\b${name}_choose\b/,
        "src/router/$name.c", "src/router/${name}_tmpl.c");
}
# Operators are named where graphs are built, and by nobody else but who calls one outside a plan; and by what says what
# a step over ranks would cost, which takes a plan apart.
my @builder = glob('src/model/block*.c src/model/graph.c src/train/optimizer.c src/study/vowels_plan.c src/bench/ranks_cost.c');
for my $name (rows('src/ops/ops.def', 'MIXT_OP_BEGIN')) {
    my @homes = grep { m{^src/(?:ops|router)/.*\.c$} && $text{$_} =~ /\b(?:mixt_)?${name}_(?:shape|cost|forward|backward)\b/ }
        sort keys %text;
    my @plain = grep { !/_tmpl\.c$/ } @homes;
    complain("the operator $name: in @homes") if @plain != 1 || @homes < 2 || @homes > 3;
    only_in("the operator $name", qr/\bmixt_${name}_(?:shape|cost)\b/, @plain);
    only_in("the operator $name by MIXT_OP_$name", qr/\bMIXT_OP_$name\b/, @homes, @builder);
}
for my $name (rows('cli/commands.def', 'COMMAND')) {
    only_in("the command $name", qr/\bcommand_$name\b/, "cli/$name.c");
}
exit($bad > 0);
