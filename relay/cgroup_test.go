package relay

import (
	"math"
	"testing"
	"testing/fstest"
)

func TestCgroupLimit(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"no cgroups", nil, math.MaxInt64},
		{"container", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000\n"}, 1000},
		{"no limit", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, math.MaxInt64},
		{"version 1", map[string]string{"proc/self/cgroup": "4:memory:/docker/1\n"}, math.MaxInt64},
		{
			"unit", map[string]string{
				"proc/self/cgroup": "0::/system.slice/relayd.service\n",
				"sys/fs/cgroup/system.slice/relayd.service/memory.max": "512\n",
				"sys/fs/cgroup/system.slice/memory.max":                "max\n",
			}, 512,
		},
		{
			"its slice", map[string]string{
				"proc/self/cgroup":             "1:name=systemd:/x\n0::/a/b\n",
				"sys/fs/cgroup/a/b/memory.max": "2048\n", "sys/fs/cgroup/a/memory.max": "1024\n",
			}, 1024,
		},
		{"above the root", map[string]string{"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/memory.max": "7\n"}, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			machine := fstest.MapFS{}
			for name, text := range tt.files {
				machine[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := cgroupLimit(machine); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
