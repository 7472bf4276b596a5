# Small things that every part of scripts/servers uses.
# SPDX-License-Identifier: GPL-2.0-or-later

die() {
	printf 'servers: %s\n' "$*" >&2
	exit 1
}

say() {
	printf 'servers: %s\n' "$*" >&2
}

# with_lock FILE COMMAND...: runs it while nobody else holds that lock. The lock is not inherited by what the command
# leaves running, as every long-lived child is started with the descriptor closed.
with_lock() {
	local file=$1
	shift
	mkdir -p "$(dirname "$file")"
	(
		flock 9
		"$@"
	) 9>"$file"
}

# A process is known by its id and its start time, so that a reused id is never taken for it.
process_start_time() {
	local stat fields
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	# What follows the parenthesised name: state is the first field, start time the 20th.
	read -ra fields <<<"${stat##*) }"
	[ "${fields[0]}" != Z ] && [ "${fields[0]}" != X ] && printf '%s\n' "${fields[19]}"
}

# is_alive PID START_TIME
is_alive() {
	local now
	now=$(process_start_time "$1") && [ "$now" = "$2" ]
}

# Returns once that process is gone, or fails after the given number of seconds.
wait_gone() {
	local pid=$1 start=$2 deadline=$((SECONDS + $3))
	while is_alive "$pid" "$start"; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.05
	done
}

# remove_server LINK DIR: its folder, its socket's folder if that lies elsewhere, and the link by which its name leads to it.
remove_server() {
	local socket
	socket=$(info_of "$2" socket)
	case $socket in "$2"/*) ;; *) rm -rf "$(dirname "$socket")" ;; esac
	[ ! -L "$1" ] || rm -f "$1"
	rm -rf "$2"
}

# info_of DIR KEY
info_of() {
	sed -n "s/^$2=//p" "$1/info"
}
