# Making datadirs. One that is laid out inside itself is made once per kind and set of options, kept as a template, and
# copied from then on; that takes a fraction of a second where initialising takes several.
# SPDX-License-Identifier: GPL-2.0-or-later

# Raised when the way templates are made changes.
TEMPLATE_VERSION=1

# Options that are fixed, or leave their traces, when a datadir is made. Dashes and underscores are the same.
readonly INIT_OPTIONS=' innodb-page-size innodb-data-file-path innodb-data-home-dir innodb-undo-directory innodb-undo-tablespaces
	innodb-log-group-home-dir innodb-log-files-in-group innodb-log-file-size innodb-redo-log-encrypt innodb-checksum-algorithm
	innodb-directories innodb-file-per-table innodb-doublewrite-dir lower-case-table-names default-table-encryption character-set-server collation-server
	early-plugin-load '

# Prints those of the given options that matter when a datadir is made.
init_options() {
	local option name
	for option; do
		name=${option%%=*}
		name=${name#--}
		name=${name//_/-}
		[[ ! $INIT_OPTIONS =~ [[:space:]]"$name"[[:space:]] ]] || printf '%s\n' "$option"
	done
}

# make_datadir KIND DATADIR OPTION...
make_datadir() {
	local kind=$1 datadir=$2
	shift 2
	local options
	mapfile -t options < <(init_options "$@")
	if is_outside "${options[@]+"${options[@]}"}"; then
		initialise "$kind" "$datadir" "${options[@]}"
		return
	fi
	local key template
	key=$kind-$(printf '%s\n' "$TEMPLATE_VERSION" "$(server_version "$kind")" "${options[@]+"${options[@]}"}" | sha256sum | cut -c 1-12)
	template=$CACHE/template/$key
	[ -d "$template" ] || with_lock "$CACHE/lock/template-$key" make_template "$kind" "$template" "${options[@]+"${options[@]}"}"
	cp -a --reflink=auto "$template" "$datadir"
}

# An absolute path among the options means that files lie outside the datadir, where no template can put them.
is_outside() {
	local option
	for option; do
		case $option in *=/* | *[=\;:]/*) return 0 ;; esac
	done
	return 1
}

make_template() {
	local kind=$1 template=$2
	shift 2
	[ ! -d "$template" ] || return 0
	say "making a template datadir for $kind $*"
	mkdir -p "$(dirname "$template")"
	rm -rf "$template.new"
	initialise "$kind" "$template.new" "$@"
	mv "$template.new" "$template"
}

# initialise KIND DATADIR OPTION...: a new datadir whose root has no password.
initialise() {
	local kind=$1 datadir=$2 option
	shift 2
	mkdir -p "$datadir"
	chmod 750 "$datadir"
	for option; do
		make_folder_of "$kind" "$datadir" "$option"
	done
	local log=$datadir.log
	if ! "initialise_${kind//[-.]/_}" "$datadir" "$@" >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		die "initialising a datadir for $kind failed; see $log"
	fi
	rm -f "$log" "$datadir/auto.cnf" "$datadir"/binlog.*
}

# Servers make none of these folders themselves, but for MySQL 9.7 inside the datadir, which it wants to find empty.
make_folder_of() {
	local kind=$1 datadir=$2 option=$3 folder=${3#*=}
	case ${option//_/-} in
		--innodb-undo-directory=* | --innodb-data-home-dir=* | --innodb-log-group-home-dir=* | --innodb-doublewrite-dir=*)
			case $kind,$folder in
				*, | mysql-9.7,[!/]*) ;;
				*) (cd "$datadir" && mkdir -p "$folder") ;;
			esac
			;;
	esac
}

as_root_user() {
	[ "$(id -u)" -ne 0 ] || printf -- '--user=root\n'
}

initialise_mysql_9_7() {
	local datadir=$1
	shift
	# The smallest redo log keeps the template small; a server resizes it when it starts.
	# shellcheck disable=SC2046
	"$CACHE/bin/mysqld" --no-defaults $(as_root_user) --initialize-insecure --datadir="$datadir" --skip-log-bin \
		--innodb-redo-log-capacity=8M --innodb-buffer-pool-size=128M "$@" </dev/null
}

initialise_mysql_5_6() {
	local datadir=$1 share=$CACHE/pkg/mysql-5.6/share
	shift
	mkdir "$datadir/mysql"
	{
		echo 'USE mysql;'
		cat "$share/mysql_system_tables.sql" "$share/mysql_system_tables_data.sql"
		echo "DELETE FROM user WHERE user = '';"
		cat "$share/fill_help_tables.sql"
	} | bootstrap mysqld-5.6 "$datadir" --innodb-log-file-size=16M "$@"
}

initialise_mariadb_10_11() {
	local datadir=$1 share=$CACHE/pkg/debian-12/usr/share/mysql
	shift
	{
		printf '%s\n' 'CREATE DATABASE mysql;' 'USE mysql;'
		echo 'SET @auth_root_socket = NULL;'
		cat "$share"/mysql_{system_tables,performance_tables,system_tables_data}.sql "$share"/fill_help_tables.sql \
			"$share"/maria_add_gis_sp_bootstrap.sql "$share"/mysql_sys_schema.sql
	} | bootstrap mariadbd "$datadir" --innodb-log-file-size=16M --enforce-storage-engine= "$@"
}

# The SQL of a new system schema, from standard input.
bootstrap() {
	local server=$1 datadir=$2
	shift 2
	# shellcheck disable=SC2046
	"$CACHE/bin/$server" --no-defaults $(as_root_user) --bootstrap --datadir="$datadir" --skip-log-bin \
		--max-allowed-packet=8M --net-buffer-length=16K "$@"
}

server_version() {
	"$CACHE/bin/$(program_of "$1")" --no-defaults --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1
}
