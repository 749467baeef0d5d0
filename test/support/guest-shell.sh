#!/bin/bash
# Runs a command, or a shell, in a guest whose root directory is this host's (read-only, through a daemon of its own) and
# whose /mnt is a directory served by the daemon under test: how suites such as pjdfstest, fsx, fio and dbench, built and
# installed on the host, are run against it.
#
#   guest-shell.sh [-s SHARE] [-r ROOT] [-m MEMORY] [-p PROCESSORS] [COMMAND]
#
# SHARE is the directory to serve (a new one in /tmp if not given), ROOT the root directory (/), MEMORY e.g. 2G. Ends with
# the status of the command. DAEMON='command with flags' tests another daemon; the build in dist/ is the default.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
share='' root=/ memory=2G processors=2
while getopts s:r:m:p: option; do
  case $option in
    s) share=$OPTARG ;;
    r) root=$OPTARG ;;
    m) memory=$OPTARG ;;
    p) processors=$OPTARG ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
command=${*:-bash -i}

sh "$here/guest-kit.sh"
kit=$(sh "$here/guest-kit.sh" path)
work=$(mktemp -d /tmp/guest-shell-XXXXXX)
[ -n "$share" ] || { share=$work/share; mkdir "$share"; }
read -ra daemon <<<"${DAEMON:-node $here/../../dist/src/cli/vhost-user-fs.js}"

pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || :; done
  wait
  rm -rf "$work"
}
trap cleanup EXIT

# serve NAME DIRECTORY FLAGS...
serve() {
  local name=$1 directory=$2
  shift 2
  "${daemon[@]}" --socket-path="$work/$name.sock" --shared-dir="$directory" --sandbox=none --seccomp=none "$@" \
    >"$work/$name.log" 2>&1 &
  pids+=($!)
  for _ in $(seq 100); do [ -S "$work/$name.sock" ] && return; sleep 0.1; done
  cat "$work/$name.log" >&2
  exit 1
}
serve share "$share" --xattr --posix-acl --announce-submounts --allow-direct-io
serve root "$root" --cache=always

script=$(printf 'export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=%s\ncd /mnt\n%s\n' \
  "${TERM:-dumb}" "$command" | base64 -w 0)
arguments="console=ttyS0 quiet loglevel=3 rdinit=/init panic=-1 nowatchdog guest_shell=$script"
serial=(-serial stdio)
[ -t 0 ] && serial=(-serial mon:stdio)
qemu-system-x86_64 -M q35,accel=tcg,memory-backend=mem0 -cpu max -smp "$processors" -m "$memory" -display none \
  -nodefaults -no-reboot -object memory-backend-memfd,id=mem0,size="$memory",share=on "${serial[@]}" \
  -chardev socket,id=c0,path="$work/share.sock" -device vhost-user-fs-pci,chardev=c0,tag=share,queue-size=1024 \
  -chardev socket,id=c1,path="$work/root.sock" -device vhost-user-fs-pci,chardev=c1,tag=root,queue-size=1024 \
  -kernel "$kit/vmlinuz" -initrd "$kit/initrd" -append "$arguments" | tee "$work/console" || :
grep -v '"level":[12]0' "$work/share.log" | tail -20 >&2 || :
exit "$(sed -n 's/.*guest-shell: status \([0-9]*\).*/\1/p' "$work/console" | tail -n 1)"
