#!/usr/bin/perl
# The dependency law over the include graph: which folder of src/ may include which. A backend is known to src/backend
# alone: all others ask the context.
use strict;
use warnings;

my %law = (
    core      => [],
    quant     => ['core'],
    dist      => ['core'],
    formats   => ['core', 'quant'],
    tokenizer => ['core', 'formats'],
    template  => ['core', 'formats'],
    corpus    => ['core'],
    ops       => ['core', 'quant', 'dist'],
    backend   => ['core', 'quant', 'ops', 'dist'],
    router    => ['core', 'quant', 'ops', 'dist'],
    store     => ['core', 'quant', 'ops'],
    plan      => ['core', 'quant', 'ops', 'router', 'dist'],
    model     => ['core', 'quant', 'ops', 'router', 'plan', 'formats', 'store', 'dist'],
    convert   => ['core', 'quant', 'formats', 'model', 'backend', 'tokenizer'],
    infer     => ['core', 'ops', 'router', 'plan', 'model', 'backend', 'store', 'dist'],
    sampling  => ['core', 'formats', 'tokenizer'],
    train     => ['core', 'ops', 'router', 'plan', 'formats', 'model', 'backend', 'corpus', 'dist'],
    eval      => ['core', 'ops', 'router', 'plan', 'model', 'backend', 'corpus', 'dist'],
    probe     => ['core', 'formats', 'ops', 'router', 'plan', 'model', 'backend', 'corpus', 'eval', 'atlas'],
    bench     => ['core', 'ops', 'plan', 'model', 'backend', 'infer', 'train', 'dist'],
    atlas     => ['core', 'formats', 'router', 'store'],
    study     => ['core', 'ops', 'router', 'plan', 'backend'],
);
# Arrows that the law does not draw, each with its reason.
my %granted = (
    'src/infer/session_file.c formats' => 'keeps a session in a file of tensors',
    'src/eval/trace.c atlas' => 'fills trace records; it runs the model, which atlas may not know',
);
my $bad = 0;

sub complain {
    print "$_[0]\n";
    $bad++;
}

for my $file (sort glob('src/*/*.[ch] src/*/*.def src/*/*/*.[ch]')) {
    my ($room) = $file =~ m{^src/([a-z]+)/};
    complain("$file: folder $room is not in the law") and next if !exists $law{$room};
    my %may = map { $_ => 1 } @{$law{$room}}, $room;
    open my $in, '<', $file or die "$file: $!\n";
    while (<$in>) {
        complain("$file:$.: names a backend: $1") if $room ne 'backend' && m{\b(mixt_backend_\w+)};
        next unless m{^\s*#\s*include\s+"([^"]+)"};
        my $name = $1;
        next if $name eq 'mixt.h';
        complain("$file:$.: includes a backend: $name") if $room ne 'backend' && $name =~ m{^backend/\w+/};
        my ($other) = $name =~ m{^([a-z]+)/};
        if (!defined $other) {
            complain("$file:$.: \"$name\" does not name its folder");
        } elsif (!$may{$other} && !$granted{"$file $other"}) {
            complain("$file:$.: $room may not include $other ($name)");
        }
    }
    close $in;
}
# The public header has every chapter once; the chapters include nothing, and cannot be included by
# themselves.
open my $public, '<', 'include/mixt.h' or die "include/mixt.h: $!\n";
my %chapters;
while (<$public>) {
    $chapters{"include/$1"}++ if m{^\s*#\s*include\s+"([^"]+)"};
}
close $public;
for my $file (sort glob('include/mixt/*')) {
    complain("$file: mixt.h includes it " . ($chapters{$file} // 0) . ' times, not once') if ($chapters{$file} // 0) != 1;
    open my $in, '<', $file or die "$file: $!\n";
    my $text = do { local $/; <$in> };
    close $in;
    complain("$file: a chapter of mixt.h includes $1") if $text =~ m{^\s*#\s*include\s+(\S+)}m;
    my $guard = 'MIXT_' . uc($file =~ s{.*/(\w+)\.h$}{$1}r) . '_H';
    complain("$file: not refused without mixt.h, or not guarded by $guard")
        if $text !~ m{^#ifndef MIXT_H\n#error [^\n]+\n#elif !defined\($guard\)\n#define $guard\n}m;
}
# The program and the examples know the public header alone; one command knows the server, which has
# its own folder, and of the libraries each in one place.
my %door = ('jansson.h' => 'serve/json.h', 'microhttpd.h' => 'serve/http.c');
for my $file (sort glob('cli/*.[ch] serve/*.[ch] examples/*.c')) {
    open my $in, '<', $file or die "$file: $!\n";
    while (<$in>) {
        next unless m{^\s*#\s*include\s+["<]([^">]*)[">]};
        my $name = $1;
        next if $file eq 'cli/serve.c' && $name eq '../serve/serve.h';
        complain("$file:$.: only mixt.h and its own folder, not \"$name\"") if m{include\s+"[^"]*/};
        complain("$file:$.: $name is for $door{$name} alone") if $file =~ m{^serve/} && ($door{$name} // $file) ne $file;
    }
    close $in;
}
exit($bad > 0);
