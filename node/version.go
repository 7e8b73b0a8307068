package node

import "runtime/debug"

// Version is the version of this module, as the build knows it.
var Version = buildVersion()

// stamped is what the linker is told (-X) where the sources come without their
// history, as in an image.
var stamped string

func buildVersion() string {
	const unknown = "devel"
	if stamped != "" {
		return stamped
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return unknown + "-" + s.Value[:12]
		}
	}
	return unknown
}
