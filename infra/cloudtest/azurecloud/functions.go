package azurecloud

import (
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) functions() map[string]cloud.Function {
	return map[string]cloud.Function{
		"azure-native:authorization:getClientConfig": func(*cloud.Call) (resource.PropertyMap, error) {
			return cloud.Values(map[string]any{
				"clientId": "04b07795-8ddb-461a-bbee-02f9e1bf7b46", "objectId": c.operator,
				"subscriptionId": c.subscription, "tenantId": c.tenant,
			}), nil
		},
		"azure-native:authorization:getClientToken": func(call *cloud.Call) (resource.PropertyMap, error) {
			audience := cloud.Str(call.Inputs, "endpoint")
			if audience == "" {
				audience = "https://management.azure.com/"
			}
			token, _ := c.issue(c.operator, "", audience)
			return cloud.Values(map[string]any{"token": token}), nil
		},
		"azure-native:resources:getResourceGroup": func(call *cloud.Call) (resource.PropertyMap, error) {
			return c.lookUpItem(kindGroup, c.groupID(cloud.Str(call.Inputs, "resourceGroupName")))
		},
		"azure-native:network:getVirtualNetwork": c.getVNet,
		"azure-native:network:getSubnet": func(call *cloud.Call) (resource.PropertyMap, error) {
			return c.lookUpItem(kindSubnet, c.vnetID(call)+"/subnets/"+cloud.Str(call.Inputs, "subnetName"))
		},
		"azure-native:storage:listStorageAccountKeys": c.listKeys,
	}
}

func (c *Cloud) vnetID(call *cloud.Call) string {
	return c.groupID(cloud.Str(call.Inputs,
		"resourceGroupName")) + "/providers/" + kindVNet + "/" + cloud.Str(call.Inputs, "virtualNetworkName")
}

// lookUpItem is a resource as Azure shows it.
func (c *Cloud) lookUpItem(kind, id string) (resource.PropertyMap, error) {
	b := c.books[kind]
	c.mu.Lock()
	it := c.get(kind, id)
	c.mu.Unlock()
	switch r, _ := parseID(id); {
	case it != nil:
		out := it.in.Copy()
		for _, p := range append([]string{"resourceGroupName"}, b.path...) {
			delete(out, resource.PropertyKey(p))
		}
		for k, v := range c.outputs(b, it) {
			out[k] = v
		}
		out["id"] = resource.NewStringProperty(it.id)
		return out, nil
	case kind == kindGroup:
		return nil, refuse(404, "ResourceGroupNotFound", "Resource group '%s' could not be found.", r.group)
	default:
		return nil, refuse(404, "ResourceNotFound", "The Resource '%s/%s' under resource group '%s' was not found. "+
			"For more details please go to https://aka.ms/ARMResourceNotFoundFix", kind, last(id), r.group)
	}
}

func (c *Cloud) getVNet(call *cloud.Call) (resource.PropertyMap, error) {
	id := c.vnetID(call)
	out, err := c.lookUpItem(kindVNet, id)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	subnets := c.subnetsOf(id)
	c.mu.Unlock()
	var list []resource.PropertyValue
	for _, s := range subnets {
		one, err := c.lookUpItem(kindSubnet, s.id)
		if err != nil {
			return nil, err
		}
		list = append(list, resource.NewObjectProperty(one))
	}
	out["subnets"] = resource.NewArrayProperty(list)
	return out, nil
}

func (c *Cloud) listKeys(call *cloud.Call) (resource.PropertyMap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.groupID(cloud.Str(call.Inputs,
		"resourceGroupName")) + "/providers/" + kindAccount + "/" + cloud.Str(call.Inputs, "accountName")
	it := c.get(kindAccount, id)
	if it == nil {
		return nil, refuse(404, "ResourceNotFound", "The Resource '%s/%s' was not found.", kindAccount, last(id))
	}
	return cloud.Values(map[string]any{"keys": []resource.PropertyValue{cloud.Value(map[string]any{
		"keyName": "key1", "permissions": "FULL", "value": it.extra.(string),
	})}}), nil
}
