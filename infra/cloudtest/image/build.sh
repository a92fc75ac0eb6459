#!/bin/sh
# Makes the Docker image that a lab boots as a VM: Debian 12 with systemd as PID 1 and cloud-init, as a cloud's own image has them.
#
#   build.sh        builds the image unless it is there, and prints its name
#   build.sh name   only prints the name
#
# The name carries a hash of this script, which holds everything that goes into the image: change it and the next run builds anew.
# Packages come from wherever this machine's apt gets Debian 12, or from HYPERCACHE_VM_MIRROR. Needs root, docker and apt.
set -eu

suite=bookworm
image=hypercache-vm:$(sha256sum "$0" | cut -c1-12)
if [ "${1-}" = name ]; then
	echo "$image"
	exit
fi

# One build at a time: whoever waited finds the image made.
if [ "${HYPERCACHE_VM_LOCKED-}" != yes ]; then
	HYPERCACHE_VM_LOCKED=yes exec flock "${TMPDIR:-/tmp}/hypercache-vm-image.lock" "$0" "$@"
fi
if docker image inspect "$image" >/dev/null 2>&1; then
	echo "$image"
	exit
fi

started=$(date +%s)
say() {
	printf 'vm image: %3ds %s\n' $(($(date +%s) - started)) "$*" >&2
}

# sources prints "URI release" of every archive of the suite that this machine's apt knows.
sources() {
	if [ -n "${HYPERCACHE_VM_MIRROR-}" ]; then
		echo "$HYPERCACHE_VM_MIRROR $suite"
		return
	fi
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v s="$suite" '$3 == "main" && ($2 == s || $2 == s "-updates" || $2 == s "-security") && !seen[$1 $2]++ { print $1, $2 }'
}

archives=$(sources)
mirror=$(echo "$archives" | awk -v s="$suite" '$2 == s { print $1; exit }')
if [ -z "$mirror" ]; then
	echo "vm image: apt on this machine knows no archive of Debian $suite: set HYPERCACHE_VM_MIRROR to one" >&2
	exit 1
fi

work=$(mktemp -d)
root=$work/root
log=$work/log
finish() {
	status=$?
	trap - EXIT
	if [ "$status" -ne 0 ] && [ -s "$log" ]; then
		tail -n 40 "$log" >&2
	fi
	umount "$root/proc" 2>/dev/null || true
	rm -rf --one-file-system "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

export DEBIAN_FRONTEND=noninteractive
if ! command -v debootstrap >/dev/null; then
	say "installing debootstrap"
	{ apt-get update && apt-get install -y --no-install-recommends debootstrap; } >>"$log" 2>&1
fi

say "unpacking the base system"
debootstrap --variant=minbase "$suite" "$root" "$mirror" >>"$log" 2>&1

say "installing packages"
echo "$archives" | while read -r uri release; do
	echo "deb $uri $release main"
done >"$root/etc/apt/sources.list"
cp /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
# Nothing may start while packages are configured.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
# No manuals and no translations: less to copy for every machine.
cat >"$root/etc/dpkg/dpkg.cfg.d/lean" <<'END'
path-exclude=/usr/share/man/*
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
END
in_root() {
	chroot "$root" env LC_ALL=C.UTF-8 "$@" >>"$log" 2>&1
}
in_root apt-get -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none update
in_root apt-get -y upgrade
in_root apt-get -y --no-install-recommends install \
	systemd systemd-sysv libpam-systemd dbus udev cloud-init locales iproute2 nftables ca-certificates curl openssl \
	e2fsprogs xfsprogs util-linux mount fdisk procps psmisc netbase iputils-ping dnsutils netcat-openbsd redis-tools python3 sudo \
	cron logrotate less vim-tiny jq tar gzip zstd
in_root apt-get clean
umount "$root/proc"

say "making it a machine image"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* "$root"/usr/sbin/policy-rc.d "$root"/debootstrap
rm -f "$root"/etc/hostname "$root"/etc/resolv.conf "$root"/etc/apt/sources.list
mkdir -p "$root/lab"
# Empty, not absent: systemd gives every machine its own at its first boot.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"

# A container has no hardware to manage and no console to log in at, and the kernel is not its own. Timers would load a
# test's machine at random times. device nodes and their links come from the lab in udev's place.
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service \
	systemd-udev-settle.service systemd-modules-load.service systemd-sysctl.service systemd-hwdb-update.service \
	getty.target console-getty.service getty-static.service systemd-logind.service \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
	logrotate.timer xfs_scrub_all.timer cron.service cloud-init-hotplugd.socket systemd-pcrphase.service \
	systemd-pcrphase-sysinit.service dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
	sys-kernel-config.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# The data source is the seed directory alone, the network is the lab's work, and modules that have nothing to do in a
# container (partitions of the boot disk, package managers of others, SSH host keys) are left out for speed.
cat >"$root/etc/cloud/cloud.cfg.d/90_lab.cfg" <<'END'
datasource_list: [NoCloud, None]
network: {config: disabled}
manual_cache_clean: false
ssh_deletekeys: false
cloud_init_modules:
 - bootcmd
 - write-files
 - disk_setup
 - mounts
 - set_hostname
 - update_hostname
 - update_etc_hosts
 - ca-certs
 - users-groups
cloud_config_modules:
 - locale
 - set-passwords
 - apt-configure
 - ntp
 - timezone
 - runcmd
cloud_final_modules:
 - package-update-upgrade-install
 - write-files-deferred
 - scripts-vendor
 - scripts-per-once
 - scripts-per-boot
 - scripts-per-instance
 - scripts-user
 - phone-home
 - final-message
END
# What a cloud's own image has chosen already.
echo LANG=C.UTF-8 >"$root/etc/default/locale"
# What ds-identify would find out at every boot.
echo 'policy: enabled' >"$root/etc/cloud/ds-identify.cfg"

# systemd's own fstab generator passes over devices in a container, and a mount cannot wait for a device where there is no
# udev. This one does for a line of fstab what systemd does in a VM: a mount after its device (x-systemd.device-timeout, 90 s)
# and its check, wanted or required by local-fs.target.
mkdir -p "$root/etc/systemd/system-generators" "$root/usr/lib/lab"
cat >"$root/etc/systemd/system-generators/lab-fstab" <<'END'
#!/bin/sh
set -eu
out=$1
while read -r what where type options _ pass _; do
	case $what in
	/dev/*) ;;
	LABEL=*) what=/dev/disk/by-label/${what#LABEL=} ;;
	UUID=*) what=/dev/disk/by-uuid/${what#UUID=} ;;
	*) continue ;;
	esac
	case $where in
	/ | none) continue ;;
	esac
	unit=$(systemd-escape --path --suffix=mount "$where")
	device=$(systemd-escape --path "$what")
	before=local-fs.target from=local-fs.target.requires timeout=90s extra=
	IFS=,
	for option in $options; do
		case $option in
		nofail) before= from=local-fs.target.wants ;;
		noauto) from= ;;
		x-systemd.device-timeout=*) timeout=${option#*=} ;;
		x-systemd.requires=*) extra="$extra ${option#*=}" ;;
		esac
	done
	unset IFS
	case $timeout in
	0) timeout=infinity ;;
	esac
	needs="lab-device@$device.service$extra"
	if [ "${pass:-0}" != 0 ]; then
		needs="$needs systemd-fsck@$device.service"
	fi
	cat >"$out/$unit" <<UNIT
[Unit]
SourcePath=/etc/fstab
Requires=$needs
After=$needs
Before=$before

[Mount]
What=$what
Where=$where
Type=$type
Options=$options
UNIT
	mkdir -p "$out/lab-device@$device.service.d"
	printf '[Service]\nTimeoutStartSec=%s\n' "$timeout" >"$out/lab-device@$device.service.d/timeout.conf"
	if [ -n "$from" ]; then
		mkdir -p "$out/$from"
		ln -sf "$out/$unit" "$out/$from/$unit"
	fi
done </etc/fstab
END
chmod 755 "$root/etc/systemd/system-generators/lab-fstab"
cat >"$root/etc/systemd/system/lab-device@.service" <<'END'
[Unit]
Description=Wait for %f
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'until [ -e "$0" ]; do sleep 0.2; done' %f
END
cat >"$root/etc/systemd/system/systemd-fsck@.service" <<'END'
[Unit]
Description=File System Check on %f
DefaultDependencies=no
Conflicts=shutdown.target
After=lab-device@%i.service local-fs-pre.target
Before=shutdown.target

[Service]
Type=oneshot
ExecStart=/lib/systemd/systemd-fsck %f
TimeoutSec=0
END
touch "$root/etc/fstab"

# PID 1 until init. The lab mounts /lab/machine (this machine's files) and /lab/net (its network namespace).
cat >"$root/usr/lib/lab/boot" <<'END'
#!/bin/sh
# First program of a lab's machine: makes a machine of the container, then becomes init.
set -eu
if [ "${1-}" != plugged ]; then
	# The network is whole before the machine is switched on, and stays when it is off.
	exec nsenter --net=/lab/net -- "$0" plugged
fi
umount /lab/net

# /sys as this network namespace sees it; read-only tells systemd that there is no udev.
version=$(stat -f -c %T /sys/fs/cgroup)
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs /sys
# The cgroup namespace confines what init sees and changes to this container's own cgroups.
if [ "$version" = cgroup2fs ]; then
	mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
else
	mount -t tmpfs -o nosuid,nodev,noexec,mode=755 cgroup /sys/fs/cgroup
	while IFS=: read -r _ controllers _; do
		case $controllers in
		name=systemd) dir=systemd options=none,name=systemd ;;
		memory | pids | devices) dir=$controllers options=$controllers ;;
		*) continue ;;
		esac
		mkdir "/sys/fs/cgroup/$dir"
		mount -t cgroup -o "nosuid,nodev,noexec,$options" cgroup "/sys/fs/cgroup/$dir"
	done </proc/self/cgroup
fi

# Docker mounts its own files here; a machine owns its /etc.
for name in hosts hostname resolv.conf; do
	umount "/etc/$name" 2>/dev/null || true
	if [ ! -s "/etc/$name" ] || [ "$name" = resolv.conf ]; then
		cat "/lab/machine/etc/$name" >"/etc/$name"
	fi
done

mkdir -p /var/lib/cloud/seed
ln -sfn /lab/machine/seed /var/lib/cloud/seed/nocloud

authority=/usr/local/share/ca-certificates/lab.crt
if ! cmp -s /lab/machine/ca.pem "$authority"; then
	mkdir -p "${authority%/*}"
	cat /lab/machine/ca.pem >"$authority"
	cat /lab/machine/ca.pem >>/etc/ssl/certs/ca-certificates.crt
	ln -sf "$authority" "/etc/ssl/certs/$(openssl x509 -noout -hash -in "$authority").0"
fi

# Disks: "name major minor link link ...", in udev's place.
while read -r name major minor links; do
	rm -f "/dev/$name"
	mknod -m 660 "/dev/$name" b "$major" "$minor"
	chgrp disk "/dev/$name"
	for link in $links; do
		mkdir -p "${link%/*}"
		ln -sfn "/dev/$name" "$link"
	done
done </lab/machine/disks

unset HOSTNAME HOME
exec /sbin/init
END
chmod 755 "$root/usr/lib/lab/boot"

say "importing $image"
tar -C "$root" --numeric-owner -cf - . | docker import \
	-c 'ENTRYPOINT ["/usr/lib/lab/boot"]' \
	-c 'ENV container=docker' \
	-c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
	- "$image" >>"$log"
say "done"
echo "$image"
