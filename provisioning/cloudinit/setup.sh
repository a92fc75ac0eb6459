#!/bin/sh
# Makes this machine ready for hypercache.service: data disk, program, secrets. hypercache-setup.service runs it at every boot; what
# is in place stays. What differs between machines comes in the environment, from configs/machine.env.
#
# Exit status 78 says that only a person can mend what is wrong; after any other failure a later attempt may succeed.
set -eu

home=${HC_HOME:-/opt/hypercache}
data=$home/data
configs=$home/configs
wait=${HC_WAIT:-600} # seconds, for each thing that may come late
label=hypercache-data

say() { echo "$*"; }
fail() {
	status=$1
	shift
	say "FAILED: $*" >&2
	exit "$status"
}

# size prints how many bytes a block device has; it fails for what is none.
size() { blockdev --getsize64 "$1" 2>/dev/null; }

# find_device sets device to the first of the paths that is a block device. A disk may be attached well after the boot.
find_device() {
	end=$(($(date +%s) + wait))
	said=
	while :; do
		for device in $HC_DATA_DEVICES; do
			if size "$device" >/dev/null; then return; fi
		done
		[ "$(date +%s)" -lt "$end" ] || fail 1 "data disk: none of $HC_DATA_DEVICES is a disk after $wait seconds; attach the data disk"
		[ -n "$said" ] || say "data disk: waiting for one of $HC_DATA_DEVICES"
		said=yes
		sleep 1
	done
}

# probe sets type, usage and table to what blkid finds on the device: file system or other content, its kind, partition table.
probe() {
	status=0
	found=$(blkid -p -o export "$device") || status=$?
	case $status in
	0 | 2) ;;
	*) fail 78 "data disk: blkid cannot tell what is on $device (status $status); it stays as it is. Wipe it with wipefs -a if nothing on it is needed" ;;
	esac
	type=$(echo "$found" | sed -n 's/^TYPE=//p')
	usage=$(echo "$found" | sed -n 's/^USAGE=//p')
	table=$(echo "$found" | sed -n 's/^PTTYPE=//p')
}

# zeros tells whether count bytes of the device from an offset on are zero. What cannot be read is not zero.
zeros() { cmp -s -n "$2" "$device" /dev/zero -i "$1:0"; }

# blank tells whether a device holds nothing: no signature that anybody knows, and only zeros where file systems, volume managers and
# partition tables begin (16 MiB) and where some keep a copy (the last MiB).
blank() {
	[ -z "$found" ] || return 1
	signatures=$(wipefs --noheadings "$device") || return 1
	[ -z "$signatures" ] || return 1
	bytes=$(size "$device") || return 1
	[ "$bytes" -ge 67108864 ] && zeros 0 16777216 && zeros $((bytes - 1048576)) 1048576
}

# mount_device mounts the data disk. It makes a file system on a blank one and on no other.
mount_device() {
	probe
	case $usage in
	filesystem) say "data disk: $device holds $type; keeping it" ;;
	'')
		[ -z "$table" ] || fail 78 "data disk: $device holds a $table partition table, not a file system; it stays as it is. Attach a blank disk, or wipe this one with wipefs -a if nothing on it is needed"
		blank || fail 78 "data disk: $device holds something that is no file system; it stays as it is. Attach a blank disk, or wipe this one with wipefs -a and blkdiscard -z if nothing on it is needed"
		say "data disk: $device is blank; making an ext4 file system"
		mkfs.ext4 -q -m 0 -L "$label" "$device"
		type=ext4
		;;
	*) fail 78 "data disk: $device holds $type ($usage), not a file system; it stays as it is. Attach a blank disk, or wipe this one with wipefs -a if nothing on it is needed" ;;
	esac
	case $type in
	ext[234])
		# Replays what a power loss left. 1: mended.
		status=0
		e2fsck -p "$device" || status=$?
		[ "$status" -le 1 ] || fail 78 "data disk: e2fsck -p $device ended with $status; repair it with e2fsck $device, then systemctl restart hypercache-setup"
		;;
	esac
	mount -o nodev,nosuid,noexec,noatime "$device" "$data"
	say "data disk: $device is mounted at $data"
}

# data_disk mounts the data disk, grows its file system with it, and gives it to the node.
data_disk() {
	if [ -n "$HC_DATA_DEVICES" ]; then
		if mountpoint -q "$data"; then
			device=$(findmnt -n -o SOURCE --mountpoint "$data")
			type=$(findmnt -n -o FSTYPE --mountpoint "$data")
		else
			# Below the mount point nothing can be written but by root: no disk, no data.
			install -d -m 0700 -o root -g root "$data"
			find_device
			mount_device
		fi
		case $type in
		ext[234]) resize2fs "$device" || say "data disk: resize2fs $device failed; the file system stays as large as it was" >&2 ;;
		xfs) xfs_growfs "$data" || say "data disk: xfs_growfs $data failed; the file system stays as large as it was" >&2 ;;
		esac
	fi
	install -d -m 0700 -o hypercache -g hypercache "$data"
}

directories() {
	install -d -m 0755 -o root -g root "$home" "$home/bin"
	install -d -m 0750 -o root -g hypercache "$configs"
	install -d -m 0750 -o hypercache -g hypercache "$home/logs"
	chown root:hypercache "$configs/hypercache.yaml"
	chmod 0640 "$configs/hypercache.yaml"
}

sum() { sha256sum "$1" | cut -d ' ' -f 1; }

# program fetches the node program, unless the right one is there.
program() {
	rm -f "$home"/bin/.hypercache.* # of an attempt that was cut short
	if [ -f "$home/bin/hypercache" ] && [ "$(sum "$home/bin/hypercache")" = "$HC_BINARY_SHA256" ]; then
		chmod 0755 "$home/bin/hypercache"
		return
	fi
	new=$(mktemp "$home/bin/.hypercache.XXXXXX")
	"$home/bin/cloud" program "$new"
	got=$(sum "$new")
	if [ "$got" != "$HC_BINARY_SHA256" ]; then
		rm -f "$new"
		fail 78 "program: $HC_BINARY_URL has the SHA-256 $got; want $HC_BINARY_SHA256. It is not used"
	fi
	chmod 0755 "$new"
	sync "$new"
	mv -f "$new" "$home/bin/hypercache"
	say "program: fetched $HC_BINARY_URL"
}

# secret fetches one secret into a file, unless it is there. $3 owns it.
secret() {
	if [ ! -s "$2" ]; then
		"$home/bin/cloud" "$1" "$2.new"
		sync "$2.new"
		mv -f "$2.new" "$2"
		say "secrets: fetched the $1"
	fi
	chown "$3" "$2"
	chmod 0400 "$2"
}

secrets() {
	# systemd reads this one for the node, which needs no right to it.
	secret gossip-key "$configs/secrets.env" root:root
	secret cluster-secret "$configs/cluster.secret" hypercache:hypercache
	[ -z "$HC_PASSWORD" ] || secret password "$configs/password" hypercache:hypercache
}

[ $# -gt 0 ] || set -- directories data_disk program secrets
for step; do
	"$step"
done
say "ready"
