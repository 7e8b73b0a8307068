//go:build !unix

package main

import "os/exec"

// ownGroup does nothing here: a command is killed.
func ownGroup(*exec.Cmd) {}

// struck: nobody tells.
func struck(*exec.Cmd) bool { return false }
