# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What ./run and ./check share: packages and the build. Sourced from the project's folder.

say()
{
	printf '%s\n' "$*" >&2
}

die()
{
	say "$(basename "$0"): $*"
	exit 1
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "root or sudo is needed to install packages: $*"
	fi
}

# packages GROUP...: their names
packages()
{
	local group
	for group in "$@"; do
		sed -n "s/^$group //p" .ci/packages
	done | tr ' ' '\n' | sort -u
}

missing_packages()
{
	local package
	while read -r package; do
		dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' ||
			echo "$package"
	done < <(packages "$@")
}

install_packages()
{
	local missing
	command -v apt-get >/dev/null ||
		{ say "No apt-get here: install by hand what .ci/packages names."; return; }
	mapfile -t missing < <(missing_packages "$@")
	[ "${#missing[@]}" -gt 0 ] || return 0
	say "Installing ${missing[*]}"
	as_root apt-get -q update >&2 || say "apt-get update failed; trying with the lists there are"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
		"${missing[@]}" >&2 || die "these packages cannot be installed: ${missing[*]}"
}

# build FOLDER MESON-OPTION...
build()
{
	local folder=$1
	shift
	if [ ! -f "$folder/build.ninja" ]; then
		meson setup "$folder" "$@" >&2 || die "the build cannot be set up; see $folder/meson-logs"
	fi
	ninja -C "$folder" >&2 || die "the build failed"
}
