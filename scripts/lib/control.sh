# Starting, stopping and talking to servers. A server's folder holds: info (key=value lines), options (one a line),
# pid and supervisor (process id and start time), status (how it ended), error.log, mysql.sock, tmp/ and, unless it was given one, data/.
# SPDX-License-Identifier: GPL-2.0-or-later

# Longer paths than this don't fit into a socket address.
readonly SOCKET_PATH_MAX=100

cmd_start() {
	[ $# -ge 2 ] || die "start takes a kind and a name"
	local kind=$1 name=$2 dir='' datadir='' owner='' timeout=300
	shift 2
	program_of "$kind" >/dev/null
	valid_name "$name"
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		[ $# -ge 2 ] || die "$1 needs a value"
		case $1 in
			--dir) dir=$2 ;;
			--datadir) datadir=$2 ;;
			--owner-pid) owner=$2 ;;
			--timeout) timeout=$2 ;;
			*) die "start does not know $1; options of the server itself follow --" ;;
		esac
		shift 2
	done
	local given=$#
	[ $# -eq 0 ] || shift
	install_kind "$kind"

	dir=$(server_dir "$name" "$dir")
	if [ -e "$dir/info" ]; then
		[ "$(info_of "$dir" kind)" = "$kind" ] || die "the server $name is a $(info_of "$dir" kind)"
		! is_running "$dir" || die "the server $name is running already"
		datadir=${datadir:-$(info_of "$dir" datadir)}
		if [ "$given" -eq 0 ]; then
			local former
			mapfile -t former <"$dir/options"
			set -- "${former[@]+"${former[@]}"}"
		fi
	else
		prepare_dir "$name" "$dir"
	fi
	printf '%s\n' "$@" | sed '/^$/d' >"$dir/options"
	if [ -n "$datadir" ]; then
		[ -d "$datadir" ] && [ -n "$(ls -A "$datadir")" ] || die "there is no datadir at $datadir"
		datadir=$(cd "$datadir" && pwd)
	else
		datadir=$dir/data
		make_datadir "$kind" "$datadir" "$@"
	fi
	start_listening "$kind" "$name" "$dir" "$datadir" "$owner" "$timeout" "$@"
	cmd_env "$name"
}

cmd_env() {
	local dir
	dir=$(existing_dir "$1")
	cat "$dir/info"
	if is_running "$dir"; then
		printf 'pid=%s\nstate=running\n' "$(cut -d ' ' -f 1 "$dir/pid")"
	else
		printf 'pid=\nstate=stopped\n'
	fi
}

cmd_query() {
	[ $# -ge 1 ] || die "query takes a name"
	local dir sql=-
	dir=$(existing_dir "$1")
	shift
	local options=(--no-defaults --user=root "--socket=$(info_of "$dir" socket)" --batch --default-character-set=utf8mb4)
	while [ $# -gt 0 ]; do
		case $1 in
			--no-names) options+=(--skip-column-names) ;;
			--database) options+=("--database=$2"); shift ;;
			*) sql=$1 ;;
		esac
		shift
	done
	local client=mariadb
	[ "$(info_of "$dir" kind)" != mysql-9.7 ] || client=mysql
	if [ "$sql" = - ]; then
		"$CACHE/bin/$client" "${options[@]}"
	else
		"$CACHE/bin/$client" "${options[@]}" --execute="$sql" </dev/null
	fi
}

cmd_stop() {
	end_server "$1" TERM
}

cmd_kill() {
	end_server "$1" KILL
}

cmd_destroy() {
	valid_name "$1"
	local dir
	dir=$(server_dir "$1" '')
	if [ -e "$dir/info" ]; then
		end_server "$1" KILL
		remove_server "$CACHE/run/$1" "$dir"
	fi
}

cmd_list() {
	local dir name
	for dir in "$CACHE"/run/*/; do
		[ -e "$dir/info" ] || continue
		name=$(basename "$dir")
		cmd_env "$name" | awk -F= -v name="$name" '{ v[$1] = substr($0, length($1) + 2) }
			END { print name "\t" v["kind"] "\t" v["state"] "\t" v["pid"] "\t" v["port"] "\t" v["dir"] }'
	done
}

cmd_stop_all() {
	local dir
	for dir in "$CACHE"/run/*/; do
		[ ! -e "$dir/info" ] || ! is_running "$dir" || cmd_stop "$(basename "$dir")"
	done
}

# --- a server's folder -----------------------------------------------------------------------------------------------

valid_name() {
	[[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || die "'$1' is no name for a server; use letters, digits, dot, dash and underscore"
}

# server_dir NAME DIR: the folder asked for, else the one that the name already stands for, else the usual place.
server_dir() {
	local usual=$CACHE/run/$1
	if [ -n "$2" ]; then
		mkdir -p "$2"
		(cd "$2" && pwd)
	elif [ -L "$usual" ] && [ -e "$usual" ]; then
		readlink "$usual"
	else
		printf '%s\n' "$usual"
	fi
}

existing_dir() {
	local dir
	valid_name "$1"
	dir=$(server_dir "$1" '')
	[ -e "$dir/info" ] || die "there is no server named $1"
	printf '%s\n' "$dir"
}

# What is removed with the server is only ever a folder that was new or empty when it was made.
prepare_dir() {
	local name=$1 dir=$2 usual=$CACHE/run/$1
	# A link whose folder is gone is left from an owner's end.
	[ ! -L "$usual" ] || rm -f "$usual"
	mkdir -p "$CACHE/run" "$dir"
	chmod 700 "$dir"
	# The leavings of a start that was cut short in the usual place can go.
	[ "$dir" != "$usual" ] || rm -rf "${dir:?}"/*
	[ -z "$(ls -A "$dir")" ] || die "$dir is not empty"
	[ "$dir" = "$usual" ] || ln -sfn "$dir" "$usual"
	mkdir "$dir/tmp"
}

is_running() {
	local pid start
	[ -s "$1/pid" ] && read -r pid start <"$1/pid" && is_alive "$pid" "$start"
}

# --- starting --------------------------------------------------------------------------------------------------------

program_of() {
	case $1 in
		mysql-9.7) echo mysqld ;;
		mysql-5.6) echo mysqld-5.6 ;;
		mariadb-10.11) echo mariadbd ;;
		*) die "there is no kind of server named '$1'; there are mysql-9.7, mysql-5.6 and mariadb-10.11" ;;
	esac
}

install_kind() {
	case $1 in
		mysql-9.7) need_package mysql-9.7 ;;
		mysql-5.6) need_package debian-12; need_package mysql-5.6 ;;
		mariadb-10.11) need_package debian-12 ;;
	esac
}

# A free port may be taken by somebody else before the server has bound it; then another one is tried.
start_listening() {
	local kind=$1 name=$2 dir=$3 datadir=$4 owner=$5 timeout=$6
	shift 6
	local port='' try
	[ ! -e "$dir/info" ] || port=$(info_of "$dir" port)
	for try in 1 2 3 4 5; do
		is_port_free "$port" || port=$(free_port)
		write_info "$kind" "$name" "$dir" "$datadir" "$port"
		! launch "$kind" "$name" "$dir" "$owner" "$timeout" "$@" || return 0
		tail -c "+$((LOG_START + 1))" "$dir/error.log" | grep -qE "Can't start server: Bind on TCP/IP port|port: [0-9]+ already in use" || break
		port=
	done
	tail -c "+$((LOG_START + 1))" "$dir/error.log" | tail -n 30 >&2
	die "the server $name did not start (try $try); its log is $dir/error.log"
}

is_port_free() {
	[ -n "$1" ] && ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Below the range that the system hands out to outgoing connections.
free_port() {
	local port
	while port=$((10000 + RANDOM % 20000)); ! is_port_free "$port"; do :; done
	printf '%s\n' "$port"
}

write_info() {
	local kind=$1 name=$2 dir=$3 datadir=$4 port=$5 socket
	socket=$([ ! -e "$dir/info" ] || info_of "$dir" socket)
	if [ -z "$socket" ]; then
		socket=$dir/mysql.sock
		[ "${#socket}" -le "$SOCKET_PATH_MAX" ] || socket=$(mktemp -d "${TMPDIR:-/tmp}/xbpipe.XXXXXX")/mysql.sock
	fi
	cat >"$dir/info.new" <<-INFO
		name=$name
		kind=$kind
		version=$(server_version "$kind")
		dir=$dir
		datadir=$datadir
		socket=$socket
		port=$port
		error_log=$dir/error.log
	INFO
	mv "$dir/info.new" "$dir/info"
}

# Starts the server under its supervisor and waits until it takes connections. False if it ended instead.
launch() {
	local kind=$1 name=$2 dir=$3 owner=$4 timeout=$5 deadline pid start
	shift 5
	local arguments
	mapfile -t arguments < <(server_arguments "$kind" "$dir")
	# Nobody else's: it is known by now that this server does not run. A lock left by a killed one may name a reused id.
	rm -f "$dir/pid" "$dir/status" "$(info_of "$dir" socket)"{,.lock}
	touch "$dir/error.log"
	LOG_START=$(stat -c %s "$dir/error.log")
	setsid bash "$LIB/supervise" "$CACHE/run/$name" "$dir" "$owner" "$CACHE/bin/$(program_of "$kind")" "${arguments[@]}" "$@" \
		</dev/null >>"$dir/error.log" 2>&1 9>&- &
	deadline=$((SECONDS + timeout))
	until tail -c "+$((LOG_START + 1))" "$dir/error.log" | grep -qE 'ready for connections'; do
		[ ! -e "$dir/status" ] || return 1
		if [ "$SECONDS" -ge "$deadline" ]; then
			read -r pid start <"$dir/pid" && kill -KILL "$pid" || true
			say "no answer within $timeout seconds"
			wait_ended "$dir" 60
			return 1
		fi
		sleep 0.05
	done
}

server_arguments() {
	local kind=$1 dir=$2
	printf '%s\n' --no-defaults "--datadir=$(info_of "$dir" datadir)" "--socket=$(info_of "$dir" socket)" \
		"--port=$(info_of "$dir" port)" --bind-address=127.0.0.1 "--server-id=$(info_of "$dir" port)" \
		"--pid-file=$dir/mysqld.pid" "--tmpdir=$dir/tmp" --skip-name-resolve --innodb-buffer-pool-size=128M --log-bin=binlog
	as_root_user
	case $kind in
		mysql-9.7) printf '%s\n' --mysqlx=OFF --gtid-mode=ON --enforce-gtid-consistency=ON --performance-schema=ON ;;
		mysql-5.6) printf '%s\n' --performance-schema=OFF --explicit-defaults-for-timestamp ;;
		mariadb-10.11) ;;
	esac
}

# --- ending ----------------------------------------------------------------------------------------------------------

end_server() {
	local dir pid start
	dir=$(existing_dir "$1")
	if is_running "$dir"; then
		read -r pid start <"$dir/pid"
		kill -"$2" "$pid" 2>/dev/null || true
	fi
	wait_ended "$dir" 600 || die "the server $1 is still there after ten minutes"
}

# Both the server and its supervisor are gone.
wait_ended() {
	local file pid start
	for file in "$1/pid" "$1/supervisor"; do
		if [ -s "$file" ]; then
			read -r pid start <"$file"
			wait_gone "$pid" "$start" "$2" || return 1
		fi
	done
}
