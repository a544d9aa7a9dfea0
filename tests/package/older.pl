#!/usr/bin/perl
# Prints the public header (header.pl) as an earlier version might have had it: the last members of these structs
# are still reserved words.
use strict;
use warnings;

my %newest = (
    mixt_context_options   => [ 'matmul', 'cache_type' ],
    mixt_chat_options      => ['name'],
    mixt_convert_options   => ['whole_experts'],
    mixt_router_options    => ['balance_groups'],
    mixt_attention_options => [ 'position_dim', 'value_dim' ],
    mixt_sampling          => ['seed'],
    mixt_train_options     => ['exact_reduce'],
    mixt_trace_options     => [ 'heldout', 'logits', 'ahead' ],
    mixt_atlas_options     => [ 'width', 'part' ],
    mixt_step_report       => ['zero_share'],
    mixt_model_info        => ['adapter'],
    mixt_type_use          => ['bytes'],
    mixt_sequence_rows     => ['route_margins'],
    mixt_fidelity_options  => ['heldout'],
    mixt_family_info       => ['trainable'],
    mixt_machine_limits    => ['int8_flops'],
    mixt_bench_options     => ['cache_type'],
    mixt_engine_options    => ['latent'],
    mixt_session_options   => ['latent'],
    mixt_ranks_paper       => ['delay'],
    mixt_ranks_way         => ['chunks'],
);

open my $in, '-|', 'tests/package/header.pl' or die "tests/package/header.pl: $!\n";
my $text = do { local $/; <$in> };
close $in or die "tests/package/header.pl: not read\n";
$text =~ s{/\*.*?\*/}{}gs;
for my $type (sort keys %newest) {
    $text =~ s/(typedef struct $type \{)(.*?)(\n\} $type;)/$1 . without($2, $type) . $3/es or die "no $type\n";
}
print $text;

# All of these members together take one word.
sub without {
    my ($body, $type) = @_;
    for my $name (@{ $newest{$type} }) {
        $body =~ s/,\s*$name;/;/ or $body =~ s/[^;{]*\b$name;(?=[^{}]*reserved)//s or die "$type has no $name\n";
    }
    $body =~ s/reserved\[(\d+)\]/'reserved[' . ($1 + 1) . ']'/e or die "$type has no reserved words\n";
    return $body;
}
