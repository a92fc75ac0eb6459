package azurecloud

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// vmPlan checks one machine, step by step, and collects what comes of it. c.mu is held.
type vmPlan struct {
	c       *Cloud
	it, old *item // old is nil for a new one
	m       *machine
	in      resource.PropertyMap

	sizeName string
	size     vmSize
	image    image
	version  string
	zone     string
	gib      int     // of the OS disk
	disks    []*item // new ones, the OS disk first
	osName   string
}

func (p *vmPlan) hardware() error {
	p.sizeName = cloud.Str(cloud.Obj(p.in, "hardwareProfile"), "vmSize")
	if p.sizeName == "" {
		return invalidParameter("hardwareProfile.vmSize", "Required parameter 'hardwareProfile.vmSize' is missing "+
			"(null).")
	}
	var ok bool
	if p.size, ok = sizeOf(p.sizeName); !ok {
		return invalidParameter("vmSize", "The value %s provided for the VM size is not valid. The valid sizes in the "+
			"current region are those of `az vm list-sizes`.", p.sizeName)
	}
	if err := oneOf("priority", cloud.Str(p.in, "priority"), "Regular", "Low", "Spot"); err != nil {
		return err
	}
	if cloud.Str(p.in, "licenseType") != "" {
		return invalidParameter("licenseType", "The value '%s' of licenseType does not go with the image.",
			cloud.Str(p.in, "licenseType"))
	}
	return nil
}

func (p *vmPlan) zones() error {
	zones := cloud.Strs(p.in, "zones")
	if err := mayZones(kindVM, p.it.name, p.it.location, zones, 1); err != nil {
		return err
	}
	if len(zones) == 1 {
		p.zone = zones[0]
	}
	if cloud.Str(cloud.Obj(p.in, "availabilitySet"), "id") != "" {
		if p.zone != "" {
			return badRequest("BadRequest", "Virtual Machine cannot be created because both Availability Zone and "+
				"Availability Set were specified.")
		}
		return notEmulated("availability sets")
	}
	return p.c.mayJoin(p.it, zones)
}

// system finds the image and compares its processors with those of the size.
func (p *vmPlan) system() error {
	r := cloud.Obj(cloud.Obj(p.in, "storageProfile"), "imageReference")
	part := func(name string) string { return cloud.Str(r, name) }
	if part("id") != "" || part("communityGalleryImageId") != "" || part("sharedGalleryImageId") != "" {
		return notEmulated("images that are not a publisher's")
	}
	for _, name := range []string{"publisher", "offer", "sku", "version"} {
		if part(name) == "" {
			return invalidParameter("imageReference."+name, "Required parameter 'imageReference.%s' is missing "+
				"(null).", name)
		}
	}
	var err error
	if p.image, p.version, err = findImage(part("publisher"), part("offer"), part("sku"), part("version")); err != nil {
		return err
	}
	if p.image.arch != p.size.arch {
		return badRequest("BadRequest", "Cannot create a VM of size '%s' because this VM size only supports a CPU "+
			"Architecture of '%s', but an image or disk with CPU Architecture '%s' was given. Please check that the "+
			"CPU Architecture of the image or disk is compatible with that of the VM size.",
			p.sizeName, p.size.arch, p.image.arch)
	}
	if p.image.generation == 2 && p.size.old {
		return badRequest("BadRequest", "The selected VM size '%s' cannot boot Hypervisor Generation '2'.", p.sizeName)
	}
	return nil
}

func (p *vmPlan) security() error {
	s := cloud.Obj(p.in, "securityProfile")
	kind := cloud.Str(s, "securityType")
	if err := oneOf("securityProfile.securityType", kind, "TrustedLaunch", "ConfidentialVM"); err != nil {
		return err
	}
	_, firmware := s["uefiSettings"]
	switch {
	case strings.EqualFold(kind, "ConfidentialVM"):
		return notEmulated("confidential VMs")
	case kind == "" && firmware:
		return badRequest("BadRequest", "Use of UEFI settings is not supported when securityProfile.securityType is "+
			"not set.")
	case kind != "" && p.image.generation != 2:
		return badRequest("BadRequest", "Security type VM is not supported on Gen1 images: %s.", p.image.sku)
	case kind != "" && !p.size.trusted:
		return badRequest("BadRequest", "The VM size '%s' is not supported for creation of VMs and Virtual Machine "+
			"Scale Set with 'TrustedLaunch' security type.", p.sizeName)
	case cloud.Bool(s, "encryptionAtHost", false):
		return invalidParameter("securityProfile.encryptionAtHost", "The property 'securityProfile.encryptionAtHost' "+
			"is not valid because the 'Microsoft.Compute/EncryptionAtHost' feature is not enabled for this "+
			"subscription.")
	}
	return nil
}

// maxCustomData is how many bytes of custom data there may be, before base64.
const maxCustomData = 65535

// forbiddenNames cannot be administrators.
func forbiddenNames() []string {
	return strings.Fields("1 123 a actuser adm admin admin1 admin2 administrator aspnet backup console david guest " +
		"john owner root server sql support " +
		"support_388945a0 sys test test1 test2 test3 user user1 user2 user3 user4 user5 video")
}

func (p *vmPlan) profile() error {
	os := cloud.Obj(p.in, "osProfile")
	if len(os) == 0 {
		return invalidParameter("osProfile", "Required parameter 'osProfile' is missing (null).")
	}
	if _, windows := os["windowsConfiguration"]; windows {
		return invalidParameter("osProfile.windowsConfiguration", "The property 'windowsConfiguration' does not go "+
			"with an image of Linux.")
	}
	p.m.host = cloud.Str(os, "computerName")
	user := cloud.Str(os, "adminUsername")
	switch {
	case !regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$`).MatchString(p.m.host):
		return invalidParameter("computerName", "Linux host name cannot exceed 64 characters in length, must begin "+
			"and end with a letter or digit and have only those, '-' and '.': '%s'.", p.m.host)
	case user == "":
		return invalidParameter("adminUsername", "Required parameter 'adminUsername' is missing (null).")
	case slices.Contains(forbiddenNames(), lower(user)):
		return invalidParameter("adminUsername", "The Admin Username specified is not allowed: '%s'.", user)
	case len(user) > 64 || !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`).MatchString(user):
		return invalidParameter("adminUsername", "The Admin Username '%s' is longer than 64 or has characters that "+
			"are not allowed.", user)
	}
	if custom := cloud.Str(os, "customData"); custom != "" {
		data, err := base64.StdEncoding.DecodeString(custom)
		if err != nil || len(data) > maxCustomData {
			return invalidParameter("customData", "Custom data in OSProfile must be in Base64 encoding and with a "+
				"maximum length of 87380 characters.")
		}
	}
	if user := cloud.Str(p.in, "userData"); user != "" {
		if data, err := base64.StdEncoding.DecodeString(user); err != nil || len(data) > maxCustomData {
			return invalidParameter("userData", "User data must be in Base64 encoding and with a maximum length of "+
				"87380 characters.")
		}
	}
	return p.login(os, user)
}

// login checks that somebody can get in.
func (p *vmPlan) login(os resource.PropertyMap, user string) error {
	linux := cloud.Obj(os, "linuxConfiguration")
	keys := cloud.Objs(cloud.Obj(linux, "ssh"), "publicKeys")
	if cloud.Bool(linux, "disablePasswordAuthentication", false) {
		if len(keys) == 0 && p.old == nil {
			return invalidParameter("linuxConfiguration.ssh.publicKeys", "Authentication using either SSH or by user "+
				"name and password must be enabled in Linux profile.")
		}
	} else if err := mayPassword(cloud.Str(os, "adminPassword")); err != nil && p.old == nil {
		return err
	}
	for _, k := range keys {
		if want := path.Join("/home", user, ".ssh/authorized_keys"); cloud.Str(k, "path") != want {
			return invalidParameter("linuxConfiguration.ssh.publicKeys.path", "Destination path for SSH public keys "+
				"is currently limited to its default value %s due to a known issue in Linux provisioning agent.", want)
		}
		if err := mayKey(cloud.Str(k, "keyData")); err != nil {
			return err
		}
	}
	return nil
}

func mayPassword(s string) error {
	if s == "" {
		return invalidParameter("adminPassword", "Required parameter 'adminPassword' is missing (null).")
	}
	kinds := 0
	for _, is := range []func(rune) bool{unicode.IsLower, unicode.IsUpper, unicode.IsDigit,
		func(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) }} {
		if strings.ContainsFunc(s, is) {
			kinds++
		}
	}
	if len(s) < 6 || len(s) > 72 || kinds < 3 {
		return invalidParameter("adminPassword", "The supplied password must be between 6-72 characters long and must "+
			"satisfy at least 3 of password complexity requirements: lower, upper, digit, special.")
	}
	return nil
}

const leastRSABits = 2048

// mayKey checks one line of a public key file.
func mayKey(line string) error {
	bad := func(why string) error {
		return invalidParameter("linuxConfiguration.ssh.publicKeys.keyData", "The value of parameter "+
			"linuxConfiguration.ssh.publicKeys.keyData is invalid: %s.", why)
	}
	parts := strings.Fields(line)
	if len(parts) < 2 {
		return bad("not a line of a public key file")
	}
	wire, err := base64.StdEncoding.DecodeString(parts[1])
	if err != nil {
		return bad("not base64")
	}
	var fields [][]byte
	for len(wire) >= 4 {
		n := int(binary.BigEndian.Uint32(wire))
		if n < 0 || n > len(wire)-4 {
			return bad("cut off")
		}
		fields, wire = append(fields, wire[4:4+n]), wire[4+n:]
	}
	if len(fields) == 0 || string(fields[0]) != parts[0] || len(wire) > 0 {
		return bad("its parts do not fit")
	}
	switch {
	case parts[0] == "ssh-ed25519" && len(fields) == 2 && len(fields[1]) == 32:
		return nil
	case parts[0] == "ssh-rsa" && len(fields) == 3:
		key := rsa.PublicKey{N: new(big.Int).SetBytes(fields[2])}
		if key.N.BitLen() < leastRSABits {
			return bad(fmt.Sprintf("%d bits are less than %d", key.N.BitLen(), leastRSABits))
		}
		return nil
	}
	return bad(parts[0] + " is neither ssh-rsa nor ssh-ed25519")
}

func (p *vmPlan) network() error {
	profile := cloud.Obj(p.in, "networkProfile")
	if len(cloud.List(profile, "networkInterfaceConfigurations")) > 0 {
		return notEmulated("interfaces that are made with the machine")
	}
	list := cloud.Objs(profile, "networkInterfaces")
	if len(list) == 0 {
		return invalidParameter("networkProfile", "Virtual machine %s must have at least one network interface.",
			p.it.name)
	}
	if len(list) > 1 {
		return notEmulated("machines with more than one interface")
	}
	if err := oneOf("networkInterfaces.deleteOption", cloud.Str(list[0], "deleteOption"), "Delete",
		"Detach"); err != nil {
		return err
	}
	nic, err := p.c.refer(kindNIC, cloud.Str(list[0], "id"), "networkProfile.networkInterfaces.id", p.it)
	if err != nil {
		return err
	}
	if user := p.c.userOfNIC(nic.id); user != nil && !strings.EqualFold(user.id, p.it.id) {
		return conflict("NicInUse", "Network Interface %s is used by existing VM %s.", nic.id, user.id)
	}
	if cloud.Bool(nic.in, "enableAcceleratedNetworking", false) && !p.size.accelerated {
		return badRequest("VMSizeIsNotPermittedToEnableAcceleratedNetworking", "The VM size %s is not permitted to "+
			"enable accelerated networking on its network interface %s.", p.sizeName, nic.id)
	}
	p.m.nic = nic.id
	return nil
}

func (p *vmPlan) mayPremium(kind, name string) error {
	if strings.HasPrefix(kind, "Premium") && !p.size.premium {
		return invalidParameter("storageAccountType", "Requested operation cannot be performed because the VM size %s "+
			"does not support the storage account type %s of disk '%s'. Consider updating the VM to a size that "+
			"supports Premium storage.", p.sizeName, kind, name)
	}
	return nil
}

func (p *vmPlan) osDisk() error {
	d := cloud.Obj(cloud.Obj(p.in, "storageProfile"), "osDisk")
	for _, e := range [][]string{
		{"osDisk.createOption", cloud.Str(d, "createOption"), "FromImage", "Attach", "Empty"},
		{"osDisk.deleteOption", cloud.Str(d, "deleteOption"), "Delete", "Detach"},
	} {
		if err := oneOf(e[0], e[1], e[2:]...); err != nil {
			return err
		}
	}
	if !strings.EqualFold(cloud.Str(d, "createOption"), "FromImage") {
		return notEmulated("OS disks other than FromImage")
	}
	kind := cloud.Str(cloud.Obj(d, "managedDisk"), "storageAccountType")
	if kind == "" {
		kind = "Standard_LRS"
	}
	if err := oneOf("osDisk.managedDisk.storageAccountType", kind, diskSKUs()...); err != nil {
		return err
	}
	if p.gib = cloud.Int(d, "diskSizeGB"); p.gib == 0 {
		p.gib = p.image.gib
	}
	if p.gib < p.image.gib {
		return badRequest("ResizeDiskError", "The specified disk size %d GB is smaller than the size of the "+
			"corresponding disk in the VM image: %d GB. This is not allowed. Please choose equal or greater size or "+
			"do not specify an explicit size.", p.gib, p.image.gib)
	}
	if p.old != nil {
		p.osName = last(p.m.osDisk)
		return p.mayPremium(kind, p.osName)
	}
	p.osName = cloud.Str(d, "name")
	if p.osName == "" {
		p.osName = fmt.Sprintf("%s_OsDisk_1_%x", p.it.name, random(16))
	}
	if err := p.mayPremium(kind, p.osName); err != nil {
		return err
	}
	made, err := p.newDisk(p.osName, disk{gib: p.gib, zone: p.zone, sku: kind})
	if err != nil {
		return err
	}
	p.m.osDisk = made.id
	return nil
}

// newDisk is a disk that comes with the machine.
func (p *vmPlan) newDisk(name string, d disk) (*item, error) {
	id := p.c.groupID(p.it.group()) + "/providers/" + kindDisk + "/" + name
	if p.c.items[lower(id)] != nil {
		return nil, conflict("ConflictingUserInput", "Disk %s already exists in resource group %s. Only "+
			"CreateOption.Attach is supported.", name, p.it.group())
	}
	if bad := machineRule().problems("name", name); len(bad) > 0 {
		return nil, invalidParameter("disk.name", "%s", bad[0].Reason)
	}
	it := &item{id: id, kind: kindDisk, name: name, pulumi: p.it.pulumi, location: p.it.location, extra: d}
	it.in = cloud.Values(map[string]any{"diskSizeGB": d.gib, "sku": map[string]any{"name": d.sku},
		"creationData": map[string]any{"createOption": "FromImage"}})
	it.out = cloud.Values(map[string]any{"name": name, "location": p.it.location, "provisioningState": "Succeeded"})
	p.disks = append(p.disks, it)
	return it, nil
}

func (p *vmPlan) dataDisks() error {
	list := cloud.Objs(cloud.Obj(p.in, "storageProfile"), "dataDisks")
	if len(list) > p.size.disks {
		return conflict("OperationNotAllowed", "The maximum number of data disks allowed to be attached to a VM of "+
			"this size is %d.", p.size.disks)
	}
	before := p.m.disks
	p.m.disks = nil
	for _, d := range list {
		lun := cloud.Int(d, "lun")
		if lun < 0 || lun > 63 || slices.ContainsFunc(p.m.disks, func(a attached) bool { return a.lun == lun }) {
			return invalidParameter("dataDisk.lun", "The value '%d' of parameter 'dataDisk.lun' is not between 0 and "+
				"63, or is there twice.", lun)
		}
		if err := oneOf("dataDisk.deleteOption", cloud.Str(d, "deleteOption"), "Delete", "Detach"); err != nil {
			return err
		}
		a, err := p.dataDisk(d, lun, before)
		if err != nil {
			return err
		}
		a.delete = strings.EqualFold(cloud.Str(d, "deleteOption"), "Delete")
		p.m.disks = append(p.m.disks, a)
	}
	return nil
}

func (p *vmPlan) dataDisk(d resource.PropertyMap, lun int, before []attached) (attached, error) {
	option := cloud.Str(d, "createOption")
	if err := oneOf("dataDisk.createOption", option, "Attach", "Empty", "FromImage", "Copy", "Restore"); err != nil {
		return attached{}, err
	}
	if strings.EqualFold(option, "Attach") {
		return p.attach(cloud.Str(cloud.Obj(d, "managedDisk"), "id"), lun)
	}
	if !strings.EqualFold(option, "Empty") {
		return attached{}, notEmulated("data disks made by %s", option)
	}
	for _, a := range before {
		if a.lun == lun { // it was made before
			return attached{lun: lun, disk: a.disk}, nil
		}
	}
	kind, gib := cloud.Str(cloud.Obj(d, "managedDisk"), "storageAccountType"), cloud.Int(d, "diskSizeGB")
	if kind == "" {
		kind = "Standard_LRS"
	}
	if gib < 1 || gib > biggestDisk {
		return attached{}, invalidParameter("dataDisk.diskSizeGB", "Required parameter 'dataDisk.diskSizeGB' is "+
			"missing (null) or not between 1 and %d.", biggestDisk)
	}
	name := cloud.Str(d, "name")
	if name == "" {
		name = fmt.Sprintf("%s_disk%d_%x", p.it.name, lun+2, random(16))
	}
	made, err := p.newDisk(name, disk{name: newName(name), gib: gib, zone: p.zone, sku: kind})
	if err != nil {
		return attached{}, err
	}
	p.m.fresh = append(p.m.fresh, made.id)
	return attached{lun: lun, disk: made.id}, p.mayPremium(kind, name)
}

// attach checks a disk that is there.
func (p *vmPlan) attach(id string, lun int) (attached, error) {
	if id == "" {
		return attached{}, invalidParameter("dataDisk.managedDisk.id", "Required parameter 'dataDisk.managedDisk.id' "+
			"is missing (null).")
	}
	it, err := p.c.refer(kindDisk, id, "storageProfile.dataDisks.managedDisk.id", p.it)
	if err != nil {
		return attached{}, err
	}
	d := it.extra.(disk)
	if owner := p.c.ownerOf(it.id); owner != nil && !strings.EqualFold(owner.id, p.it.id) {
		return attached{}, conflict("ConflictingUserInput", "Disk '%s' cannot be attached as the disk is already "+
			"owned by VM '%s'.", it.id, owner.id)
	}
	if d.zone != p.zone && !strings.HasSuffix(d.sku, "_ZRS") {
		return attached{}, badRequest("BadRequest", "Managed disk with resource id '%s' is in zone '%s' and cannot be "+
			"attached to VM '%s' in zone '%s'.",
			it.id, d.zone, p.it.name, p.zone)
	}
	if d.name == "" {
		return attached{}, notEmulated("attach a disk that a system was on")
	}
	if slices.ContainsFunc(p.m.disks, func(a attached) bool { return strings.EqualFold(a.disk, it.id) }) {
		return attached{}, conflict("ConflictingUserInput", "Disk '%s' is attached twice.", it.id)
	}
	return attached{lun: lun, disk: it.id}, p.mayPremium(d.sku, it.name)
}

// identity gives the machine one of its own in the directory.
func (p *vmPlan) identity() error {
	kind := cloud.Str(cloud.Obj(p.in, "identity"), "type")
	switch {
	case strings.Contains(kind, "UserAssigned"):
		return notEmulated("identities of type %s", kind)
	case kind == "SystemAssigned" && p.m.principal == "":
		p.m.principal = newGUID()
	case kind != "SystemAssigned":
		delete(p.c.principals, p.m.principal)
		p.m.principal = ""
	}
	return nil
}

// commit enters what was found out; nothing is refused any more.
func (p *vmPlan) commit() {
	for _, d := range p.disks {
		p.c.add(d)
	}
	p.it.extra = p.m
	out := p.it.out
	delete(out, "identity")
	if p.m.principal != "" {
		p.c.principals[p.m.principal] = p.it.id
		out["identity"] = cloud.Value(map[string]any{"type": "SystemAssigned", "principalId": p.m.principal,
			"tenantId": p.c.tenant})
	}
	out["vmId"] = resource.NewStringProperty(p.m.guid)
	out["provisioningState"] = resource.NewStringProperty("Succeeded")
	out["timeCreated"] = resource.NewStringProperty(p.m.made.UTC().Format(timeFormat))
	storage := cloud.Obj(p.in, "storageProfile").Copy()
	os := cloud.Obj(storage, "osDisk").Copy()
	managed := cloud.Obj(os, "managedDisk").Copy()
	managed["id"] = resource.NewStringProperty(p.m.osDisk)
	os["managedDisk"], os["name"] = resource.NewObjectProperty(managed), resource.NewStringProperty(p.osName)
	os["osType"], os["diskSizeGB"] = resource.NewStringProperty("Linux"), resource.NewNumberProperty(float64(p.gib))
	image := cloud.Obj(storage, "imageReference").Copy()
	image["exactVersion"] = resource.NewStringProperty(p.version)
	storage["osDisk"], storage["imageReference"] = resource.NewObjectProperty(os), resource.NewObjectProperty(image)
	out["storageProfile"] = resource.NewObjectProperty(storage)
}
