package azurecloud

import (
	"context"
	"fmt"
	"slices"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) groupKinds() map[string]*books {
	return map[string]*books{"azure-native:resources:ResourceGroup": {
		kind: kindGroup, path: []string{"resourceGroupName"}, rule: groupRule(), located: true, mostTags: 50,
		replace: []string{"location"},
		put: func(_ *cloud.Call, it, _ *item) error {
			it.out["properties"] = cloud.Value(map[string]any{"provisioningState": "Succeeded"})
			return nil
		},
		undo: c.emptyGroup,
	}}
}

// emptyGroup deletes everything in a group, as Azure does with the group, whoever made it. What is in use goes once its
// user has gone, so it goes round until nothing is left or nothing goes any more.
func (c *Cloud) emptyGroup(ctx context.Context, group *item) error {
	for {
		var refused error
		left, removed := c.inside(group.id), 0
		for _, it := range left {
			if err := c.erase(ctx, c.books[it.kind], it.id); err != nil {
				refused = err
				continue
			}
			removed++
		}
		switch {
		case len(left) == 0:
			return nil
		case removed == 0:
			return fmt.Errorf("delete what is in resource group %s: %w", group.name, refused)
		}
	}
}

// inside are the things in a group, the youngest first.
func (c *Cloud) inside(group string) []*item {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*item
	for _, it := range c.items {
		if it.id != group && within(it.id, group) && !it.gone {
			list = append(list, it)
		}
	}
	sortYoungest(list)
	return list
}

func sortYoungest(list []*item) {
	slices.SortFunc(list, func(a, b *item) int { return b.seq - a.seq })
}
