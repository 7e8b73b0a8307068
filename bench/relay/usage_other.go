//go:build !unix

package main

func cpuSeconds() (float64, error) { return 0, errNotHere }

func residentBytes() (int64, error) { return 0, errNotHere }
