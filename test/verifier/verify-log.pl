#!/usr/bin/perl
# Checks a Superfleet log by docs/log.md alone: verify-log.pl EXPORT | FOLDER-OF-SEGMENTS [MESH-ID]
# Core modules and the openssl command (3.0 or later) are all it needs. Exit 0: it holds; 1: it does not; 2: it can't tell.
use strict;
use warnings;
use Digest::SHA qw(sha256);
use File::Temp ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64 encode_base64);

my ($log, $wanted) = @ARGV;
defined $log or do { print STDERR "usage: verify-log.pl FILE|FOLDER [MESH]\n"; exit 2 };
my @files = -d $log ? segments($log) : ($log);
@files or do { print STDERR "no segments in $log\n"; exit 2 };

my $json = JSON::PP->new->utf8;
my $temporary = File::Temp->newdir;
my $place = $log;    # where the line lies that is looked at
my ($size, $time, $epoch) = (0, 0, 1);
my @peaks;           # [leaves, hash] of the perfect trees, largest first
my ($mesh, $founderKey, $recoveryKey, $signer, %hadKey, $root);
my ($pending, $pendingBytes, $handover) = (0, 0, undef);
my $checkpoints = 0;

for my $file (@files) {
    $place = $file;
    if (-d $log) {
        my ($first) = $file =~ /(\d{16})\.jsonl$/;
        bad("the segment should begin with entry $size") if $first != $size;
        bad('the segment before it does not end with a checkpoint') if $pending;
    }
    open my $in, '<:raw', $file or do { print STDERR "$file: $!\n"; exit 2 };
    while (defined(my $line = <$in>)) {
        $place = "$file line $.";
        bad('a line of more than 65536 bytes') if length $line > 65_536;
        bad('an unterminated line') unless chomp $line;
        if ($line =~ /^\{"checkpoint":/) { checkpoint($line) } else { entry($line) }
    }
    close $in;
}
$place = $log;
bad("$pending entries without a checkpoint") if $pending;
bad('not one checkpoint') unless $checkpoints;
bad("it is the log of mesh $mesh") if defined $wanted && $wanted ne $mesh;
printf "mesh %s\nsize %d\nroot %s\ncheckpoints %d\n", $mesh, $size, unpack('H*', $root), $checkpoints;

sub entry {
    my ($line) = @_;
    my ($index, $its, $at, $type) =
      $line =~ /^\{"index":(\d+),"epoch":(\d+),"time":(\d+),"type":"([A-Za-z0-9.]+)","body":.*\}$/
      or bad('no entry and no checkpoint');
    my $body = parsed($line)->{body};
    bad("index $index where $size must come") if $index ne $size;
    bad("time $at before $time") if $at < $time;
    bad("type $type at index $index") if ($index == 0) != ($type eq 'mesh.created');
    bad('a handover that shares its batch') if $handover || ($type eq 'epoch.handover' && $pending);
    my $leaf = sha256("\0" . $line);
    if ($index == 0) {
        $mesh = unpack 'H*', $leaf;
        $founderKey = key($body->{logKey});
        $recoveryKey = key($body->{recoveryKey});
        $hadKey{ $signer = $founderKey } = 1;
    }
    handover($body, $its) if $type eq 'epoch.handover';
    bad("epoch $its where $epoch must come") if $its != $epoch;
    $time = $at;
    bad('more than 1024 entries in a batch') if ++$pending > 1024;
    bad('a batch of more than 4 MiB') if ($pendingBytes += 1 + length $line) > 4 * 1024 * 1024;
    $size += 1;
    push @peaks, [1, $leaf];
    while (@peaks > 1 && $peaks[-1][0] == $peaks[-2][0]) {
        my ($left, $right) = splice @peaks, -2;
        push @peaks, [2 * $left->[0], sha256("\1" . $left->[1] . $right->[1])];
    }
}

# The entry stands under the checkpoint that the same key signs; from the next batch on its own key signs.
sub handover {
    my ($body, $its) = @_;
    my $now = unpack 'H*', tree();
    bad('a handover that names another size or root') if $body->{size} ne $size || $body->{root} ne $now;
    my $next = key($body->{logKey});
    bad('a handover to a key that signed before') if $hadKey{$next}++;
    my $authority = $body->{authority};
    bad("authority $authority") unless $authority =~ /^(?:founder|recovery)$/;
    $signer = $recoveryKey if $authority eq 'recovery';
    my $text = join '', map { "$_\n" } 'superfleet-handover/1', $mesh, $its,
      @$body{qw(size root authority founder logKey)};
    holds($text, decode_base64($body->{signature}), $signer) or bad('the signature of the handover');
    $epoch += 1;
    $handover = $next;
}

sub checkpoint {
    my ($line) = @_;
    bad('a checkpoint with no entry before it') unless $pending;
    my $note = parsed($line);
    bad('a checkpoint with other fields') if join(',', keys %$note) ne 'checkpoint';
    my ($text, $signatures) = $note->{checkpoint} =~ /^(.*?\n)\n(.*)\n$/s or bad('no signed note');
    my ($origin, $count, $said) = split /\n/, $text;
    bad("a checkpoint of $origin") if $origin ne $mesh;
    bad("a checkpoint of size $count after $size entries") if $count ne $size;
    $root = tree();
    bad('a checkpoint of another root') if $said ne encode_base64($root, '');
    utf8::encode($text);
    my $id = substr sha256("$mesh\n\1$signer"), 0, 4;
    my $good = 0;
    for (split /\n/, $signatures) {
        my ($name, $base64) = /^\x{2014} (\S+) (\S+)$/ or bad('a signature line');
        my $bytes = decode_base64($base64);
        next if $name ne $mesh || substr($bytes, 0, 4) ne $id;
        $good = 1 if holds($text, substr($bytes, 4), $signer);
    }
    bad('the checkpoint is not signed by the key of the log') unless $good;
    ($pending, $pendingBytes) = (0, 0);
    $checkpoints += 1;
    ($signer, $handover) = ($handover, undef) if defined $handover;
}

# RFC 6962: what is not a perfect tree is joined from the right.
sub tree {
    my $hash;
    for (reverse @peaks) { $hash = defined $hash ? sha256("\1" . $_->[1] . $hash) : $_->[1] }
    return $hash;
}

sub holds {
    my ($text, $signature, $key) = @_;
    my %is = (text => $text, signature => $signature, key => pack('H*', '302a300506032b6570032100') . $key);
    for (keys %is) {
        open my $out, '>:raw', "$temporary/$_" or die $!;
        print $out $is{$_};
        close $out or die $!;
    }
    my @verify = (qw(openssl pkeyutl -verify -pubin -keyform DER -rawin -inkey), "$temporary/key");
    open my $said, '-|', @verify, '-in', "$temporary/text", '-sigfile', "$temporary/signature" or die $!;
    my $words = join '', <$said>;
    return close $said;
}

sub key { my $raw = decode_base64($_[0]); bad('a key that is not 32 bytes long') if length $raw != 32; $raw }
sub parsed { my $value = eval { $json->decode($_[0]) }; bad('no JSON') unless ref $value eq 'HASH'; $value }

sub segments {
    opendir my $in, $_[0] or die "$_[0]: $!\n";
    return sort map { "$_[0]/$_" } grep { /^\d{16}\.jsonl$/ } readdir $in;
}

sub bad { print STDERR "not sound: $place: $_[0]\n"; exit 1 }
