// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseSubIDs(t *testing.T) {
	const text = `root:1:5
# ada:7:7
ada:100000:65536
1000:300000:10
 ada:400000:1
eve:500000:9
ada:x:1
ada:1:0
ada:1
ada:4294967290:6
:9:9
ada:600000:2`
	assert.Equal(t, []IDRange{{100000, 65536}, {300000, 10}, {400000, 1}, {600000, 2}}, ParseSubIDs(text, "ada", 1000))
	assert.Equal(t, []IDRange{{300000, 10}}, ParseSubIDs(text, "", 1000), "without a name, the number alone")
	assert.Empty(t, ParseSubIDs(text, "", 7))
}

func TestMapSubIDs(t *testing.T) {
	assert.Equal(t, IDMaps{{0, 1000, 1}}, MapSubIDs(1000, nil))
	assert.Equal(t, IDMaps{{0, 1000, 1}, {1, 100000, 10}, {11, 300000, 5}},
		MapSubIDs(1000, []IDRange{{100000, 10}, {999, 2}, {100005, 1}, {300000, 5}}),
		"what overlaps is left out")
}

func TestOtherSubIDs(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "passwd: files sss\n": false, "subid: files\n": false, "# subid: sss\n": false,
		"subid: sss\n": true, "  subid:\tsss # here\n": true,
	} {
		assert.Equal(t, want, otherSubIDs(text), "%q", text)
	}
}

// Whatever a file says, every range can be in a map, and so can the map of all.
func FuzzSubIDs(f *testing.F) {
	f.Add("ada:100000:65536\n1000:1:1\n", uint32(1000))
	f.Fuzz(func(t *testing.T, text string, own uint32) {
		ranges := ParseSubIDs(text, "ada", 1000)
		for _, r := range ranges {
			assert.NoError(t, IDMaps{{0, r.First, r.Count}}.Validate())
		}
		if own < math.MaxUint32 {
			assert.NoError(t, MapSubIDs(own, ranges).Validate())
		}
	})
}
