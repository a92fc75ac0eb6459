// Package httpapi is a node's HTTP face: health, metrics, the REST view of the
// cache and the routes operators use.
//
// It owns routes, encodings, limits and the mapping from the cache's errors to
// HTTP statuses. It refuses what browsers send across sites, bodies above the
// limit, and admin requests that come neither from this machine nor with the
// cluster secret. It decides nothing about data: whatever touches a key goes
// through Backend.Do, exactly as a Redis client's command would, so the two
// protocols cannot disagree.
package httpapi
