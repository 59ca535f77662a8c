// Package vmwaretest is a vCenter or an ESXi host for tests: govmomi's simulator, and
// what it lacks: the bytes of disks, change IDs, QueryChangedDiskAreas, leases that
// end, datastores that ask who reads them. It proves that we ask as the protocol says,
// not that a real server answers so.
package vmwaretest
