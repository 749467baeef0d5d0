#!/bin/sh
# The guest kit: what a real QEMU guest test needs, put into one cache directory.
#
#   guest-kit.sh            make the kit complete, or say in one line why it cannot be, and exit 3
#   guest-kit.sh check      exit 0 if it is complete, 3 if not; installs and downloads nothing
#   guest-kit.sh peers      also unpack back-ends of others: two virtio-fs daemons, qemu-storage-daemon
#   guest-kit.sh path       print the directory
#
# On Debian 12 or 13 as root it installs QEMU (8.2 or newer: from the backports of Debian 12), busybox and a C
# compiler for the guest's own test programs. The guest kernel is downloaded and unpacked, never installed. The
# machine's own apt sources are read, never written: further suites are added in a private copy of them, on the
# same mirror. VHOST_USER_CACHE moves the cache directory.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
kit=${VHOST_USER_CACHE:-$repo/.cache}/guest-kit
apt_root=$kit/apt
qemu_least=8.2
programs="$here"/guest/*.c

say() { printf 'guest kit: %s\n' "$*" >&2; }
cannot() { say "$*"; exit 3; }
newer_or_same() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

qemu_version() { qemu-system-x86_64 --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p'; }

# What the built files depend on: this script and the guest's programs.
recipe() { cat "$0" "$here"/guest/* | sha256sum | cut -d' ' -f1; }

is_complete() {
  version=$(qemu_version)
  [ -n "$version" ] && newer_or_same "$version" "$qemu_least" &&
    [ -s "$kit/vmlinuz" ] && [ -s "$kit/initrd" ] && [ "$(cat "$kit/recipe" 2>/dev/null)" = "$(recipe)" ]
}

# --- apt, with a private copy of the machine's sources ---------------------------------------------------------

codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}")
distribution=$(. /etc/os-release 2>/dev/null && echo "${ID:-}")

kit_apt() {
  command=$1
  shift
  "$command" -q -o Dir::Etc::SourceList="$apt_root/sources.list" -o Dir::Etc::SourceParts="$apt_root/sources.list.d" \
    -o Dir::State::Lists="$apt_root/lists" -o APT::Sandbox::User=root -o Acquire::Retries=3 "$@"
}

# The suites of the private sources, as far as their lists are here, each with its mirror.
suites() { kit_apt apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages'; }

update_lists() {
  kit_apt apt-get update >"$apt_root/update.log" 2>&1 || cannot "apt-get update failed, see $apt_root/update.log"
  touch "$apt_root/updated"
}

copy_sources() {
  mkdir -p "$apt_root/lists/partial" "$apt_root/sources.list.d"
  cp -a /var/lib/apt/lists/. "$apt_root/lists/" 2>/dev/null || :
  rm -f "$apt_root/lists/lock"
  for source in /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ ! -e "$source" ] || cp "$source" "$apt_root/sources.list.d/"
  done
  cat /etc/apt/sources.list >"$apt_root/sources.list" 2>/dev/null || : >"$apt_root/sources.list"
  [ -n "$(suites)" ] || update_lists # a machine on which apt-get update was never run
}

# Adds the suites named to the private sources, from the mirror that serves this machine's own release.
with_suites() {
  [ -e "$apt_root/updated" ] || copy_sources
  mirror=$(suites | sed -n "s/^$codename //p" | head -n 1)
  [ -n "$mirror" ] || cannot "no apt source of this machine serves $codename"
  for suite in "$@"; do
    if suites | grep -q "^$suite "; then continue; fi
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >>"$apt_root/sources.list"
    rm -f "$apt_root/updated"
  done
  [ -n "$(find "$apt_root/updated" -mmin -60 2>/dev/null)" ] || update_lists
}

# The suite that has a QEMU and a cloud kernel that are new enough.
suite_for_guest() {
  case $codename in
    bookworm) echo bookworm-backports ;;
    *) echo "$codename" ;;
  esac
}

install_tools() {
  wanted=
  version=$(qemu_version)
  { [ -n "$version" ] && newer_or_same "$version" "$qemu_least"; } || wanted="$wanted qemu-system-x86 qemu-system-data seabios"
  [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || wanted="$wanted busybox-static"
  command -v cpio >/dev/null || wanted="$wanted cpio"
  command -v xz >/dev/null || wanted="$wanted xz-utils"
  command -v gcc >/dev/null || wanted="$wanted gcc"
  [ -n "$(find /usr/lib -name libc.a 2>/dev/null | head -n 1)" ] || wanted="$wanted libc6-dev"
  [ -n "$wanted" ] || return 0
  say "installing$wanted"
  suite=$(suite_for_guest)
  # shellcheck disable=SC2086 # a list of packages
  DEBIAN_FRONTEND=noninteractive kit_apt apt-get install -y --no-install-recommends -t "$suite" $wanted \
    >"$apt_root/install.log" 2>&1 </dev/null || cannot "apt-get install$wanted failed, see $apt_root/install.log"
}

# Unpacks a package of a suite into a directory: unpack_package SUITE PACKAGE DIRECTORY
unpack_package() {
  mkdir -p "$3" "$apt_root/debs"
  rm -f "$apt_root/debs/$2"_*.deb
  (cd "$apt_root/debs" && kit_apt apt-get download "$2/$1" >"$apt_root/download.log" 2>&1) ||
    cannot "cannot download $2 of $1, see $apt_root/download.log"
  dpkg-deb -x "$apt_root/debs/$2"_*.deb "$3"
  rm -f "$apt_root/debs/$2"_*.deb
}

# --- the kernel and its first root file system -----------------------------------------------------------------

unpack_kernel() {
  suite=$(suite_for_guest)
  image=$(kit_apt apt-cache show "linux-image-cloud-amd64/$suite" |
    sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -n 1)
  [ -n "$image" ] || cannot "no linux-image-cloud-amd64 in $suite"
  [ "$(cat "$kit/kernel/package" 2>/dev/null)" = "$image" ] && return 0
  say "unpacking $image"
  rm -rf "$kit/kernel"
  unpack_package "$suite" "$image" "$kit/kernel"
  echo "$image" >"$kit/kernel/package"
}

# Copies a module, uncompressed, for init to load. None of those wanted depends on another.
add_module() {
  file=$(find "$kit/kernel" -name "$1.ko*" | head -n 1)
  [ -n "$file" ] || cannot "the kernel package has no module $1"
  case $file in
    *.xz) xz -dc "$file" >"$root/modules/$1.ko" ;;
    *) cp "$file" "$root/modules/$1.ko" ;;
  esac
  grep -aq 'depends=' "$root/modules/$1.ko" && ! grep -aqE 'depends=[a-z]' "$root/modules/$1.ko" ||
    cannot "module $1 depends on others"
}

build_initrd() {
  say 'building the initramfs'
  root=$kit/root
  rm -rf "$root"
  mkdir -p "$root/bin" "$root/modules"
  for directory in proc sys dev run tmp mnt etc root; do mkdir "$root/$directory"; done
  cp /bin/busybox "$root/bin/busybox"
  for applet in $("$root/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
  done
  ln -s bin "$root/sbin"
  printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
  add_module virtio_mem
  cp "$here/guest/init" "$root/init"
  chmod 755 "$root/init"
  for program in $programs; do
    gcc -O2 -Wall -static -o "$root/bin/$(basename "$program" .c)" "$program"
  done
  (cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$kit/initrd"
  cp "$kit"/kernel/boot/vmlinuz-* "$kit/vmlinuz"
}

# --- peers -----------------------------------------------------------------------------------------------------

# Rust virtiofsd of Debian 13 with its own libc; C virtiofsd and qemu-storage-daemon of Debian 12; each started through
# run-*.
unpack_peers() {
  [ "$(cat "$kit/peers/recipe" 2>/dev/null)" != "$(recipe)" ] || return 0
  can_be_made
  apt_root=$kit/apt-peers # apart: nothing is ever installed with the suites of another release in sight
  with_suites trixie bookworm
  say 'unpacking virtiofsd of Debian 13 and of Debian 12, and qemu-storage-daemon'
  rm -rf "$kit/peers"
  for package in virtiofsd libc6 libcap-ng0 libseccomp2 libgcc-s1; do
    unpack_package trixie "$package" "$kit/peers/rust"
  done
  for package in qemu-system-common libc6 libcap-ng0 libseccomp2 libgcc-s1 libglib2.0-0 libpcre2-8-0 liburing2 libgnutls30 \
    libp11-kit0 libidn2-0 libunistring2 libtasn1-6 libnettle8 libhogweed6 libgmp10 libffi8 libnuma1 libfuse3-3 libaio1 \
    libzstd1 zlib1g; do
    unpack_package bookworm "$package" "$kit/peers/c"
  done
  write_runner rust usr/libexec/virtiofsd
  write_runner c usr/lib/qemu/virtiofsd
  write_runner c usr/bin/qemu-storage-daemon qsd
  recipe >"$kit/peers/recipe"
}

# write_runner ROOT PROGRAM [NAME]
write_runner() {
  root=$kit/peers/$1
  libraries=$(find "$root" -name '*.so*' ! -type d -exec dirname {} \; | sort -u | tr '\n' ':')
  loader=$(find "$root" -name 'ld-linux-x86-64.so.2' | head -n 1)
  printf '#!/bin/sh\nexec %s --library-path %s %s/%s "$@"\n' "$loader" "$libraries" "$root" "$2" \
    >"$kit/peers/run-${3:-$1}"
  chmod 755 "$kit/peers/run-${3:-$1}"
}

# ---------------------------------------------------------------------------------------------------------------

can_be_made() {
  [ "$(uname -s) $(uname -m)" = 'Linux x86_64' ] || cannot "the guest needs a Linux x86-64 machine"
  [ "$distribution" = debian ] || cannot "packages are known for Debian 12 and 13 only, this is '${distribution:-unknown}'"
  [ "$(id -u)" = 0 ] || cannot 'installing packages needs root'
}

make_kit() {
  mkdir -p "$kit"
  exec 9>"$kit/lock"
  flock 9
  is_complete && return 0
  can_be_made
  with_suites "$(suite_for_guest)"
  install_tools
  unpack_kernel
  build_initrd
  recipe >"$kit/recipe"
  is_complete || cannot "QEMU $(qemu_version) is older than $qemu_least"
  say "complete in $kit, QEMU $(qemu_version), $(cat "$kit/kernel/package")"
}

case ${1:-make} in
  make) make_kit ;;
  check) is_complete || cannot 'not complete: run test/support/guest-kit.sh as root on Debian' ;;
  peers) make_kit && unpack_peers ;;
  path) echo "$kit" ;;
  *) say "unknown command '$1'"; exit 2 ;;
esac
