// Package e2e migrates real guests from end to end on real parts and boots
// them. Its tests start virtual machines and take minutes.
package e2e
