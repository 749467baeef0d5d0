#!/usr/bin/perl
# Runs in the guest: the same work on each of several mounts, in turns, and says on the console when it begins and ends.
#
#   guest-load.pl ROUNDS SECONDS WORKLOADS NAME=DIRECTORY...
#
#   @ begin WORKLOAD NAME
#   @ end WORKLOAD NAME OPERATIONS SECONDS INTERRUPTS
#
# WORKLOADS is a regular expression. DIRECTORY holds a file `data`. The page cache of the guest is passed by, or dropped: what is measured are requests.
use strict;
use warnings;
use Time::HiRes qw(time sleep);

$| = 1;
my ($rounds, $seconds, $wanted) = splice @ARGV, 0, 3;
my $files = 1000;

# name, fio's rw, block size, requests in flight
my @data = (
  ['randread 4k', 'randread', '4k', 8],
  ['randread 4k, one at a time', 'randread', '4k', 1],
  ['randwrite 4k', 'randwrite', '4k', 8],
  ['seqread 128k', 'read', '128k', 4],
  ['seqread 1M', 'read', '1M', 2],
  ['seqwrite 1M', 'write', '1M', 2],
);

sub measured {
  my ($workload, $name, $work) = @_;
  return $work->() unless $workload =~ $wanted;
  print "@ begin $workload $name\n";
  my $before = interrupts();
  my ($operations, $took) = $work->();
  my $interrupts = interrupts() - $before;
  print "@ end $workload $name $operations $took $interrupts\n";
}

# Of the request queues of all mounts, so far.
sub interrupts {
  open my $file, '<', '/proc/interrupts' or die "interrupts: $!";
  my $sum = 0;
  while (my $line = <$file>) {
    next unless $line =~ /virtio\d+-requests/;
    my (undef, @field) = split ' ', $line;
    $sum += $_ for grep { /^\d+$/ } @field[0, 1];
  }
  return $sum;
}

sub fio {
  my ($directory, $rw, $size, $depth) = @_;
  my $terse = `fio --name=x --filename=$directory/data --rw=$rw --bs=$size --iodepth=$depth --ioengine=libaio --direct=1 --size=64M --time_based --runtime=$seconds --thread --norandommap --output-format=terse --terse-version=3 2>&1`;
  my @field = split /;/, $terse;
  die "fio: $terse" if @field < 50 || $field[4] != 0;
  my $first = $rw =~ /write/ ? 46 : 5; # KiB in all, KiB/s, I/Os a second, ms
  return ($field[$first + 2] * $field[$first + 3] / 1000, $field[$first + 3] / 1000);
}

sub forget {
  open my $file, '>', '/proc/sys/vm/drop_caches' or die "drop_caches: $!";
  print $file "3\n";
  close $file;
  sleep 0.3; # what the guest forgets is told in the background
}

sub timed {
  my ($count, $work) = @_;
  my $began = time;
  $work->();
  return ($count, time - $began);
}

# Of what a mount has in `names`.
sub paths { my ($directory) = @_; return map { "$directory/names/$_" } 1 .. $files }

my @names = (
  ['create', sub {
    my ($directory) = @_;
    for (paths($directory)) { open my $file, '>', $_ or die "open: $!"; print $file $_; close $file or die "close: $!" }
  }],
  ['stat', sub { for (paths(@_)) { lstat $_ or die "lstat: $!" } }],
  ['open and read', sub {
    for (paths(@_)) { open my $file, '<', $_ or die "open: $!"; <$file> eq $_ or die 'other text' }
  }],
  ['list with attributes', sub {
    my ($directory) = @_;
    opendir my $handle, "$directory/names" or die "opendir: $!";
    for (readdir $handle) { lstat "$directory/names/$_" or die "lstat: $!" }
  }],
  ['unlink', sub { for (paths(@_)) { unlink $_ or die "unlink: $!" } }],
);

sub names {
  my @order = @_;
  for (@order) { mkdir "$_->[1]/names" or die "mkdir: $!" }
  for my $row (@names) {
    my ($workload, $work) = @$row;
    for (@order) {
      my ($name, $directory) = @$_;
      forget();
      measured($workload, $name, sub { timed($files, sub { $work->($directory) }) });
    }
  }
  for (@order) { rmdir "$_->[1]/names" or die "rmdir: $!" }
}

system 'sync';
my @mounts = map { [split /=/] } @ARGV;
for my $round (0 .. $rounds) { # the first one warms up
  my @order = $round % 2 ? reverse @mounts : @mounts;
  print "@ round $round\n";
  for my $row (@data) {
    my ($workload, @how) = @$row;
    next unless $workload =~ $wanted;
    for (@order) {
      my ($name, $directory) = @$_;
      measured($workload, $name, sub { fio($directory, @how) });
    }
  }
  names(@order) if grep { $_->[0] =~ $wanted } @names;
}
print "@ done\n";
