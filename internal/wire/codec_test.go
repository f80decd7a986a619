// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type part struct {
	N     int32
	Name  string
	Files []int
}

type thing struct {
	Signed  int64
	Size    uint64
	Small   uint8
	Yes     bool
	Texts   []string
	Raw     []byte
	Parts   []part
	One     *part
	FD, No  int
	Inodes  []uint64
	Nothing *part
}

func (t *thing) walk(c *Codec) {
	walkPart := func(c *Codec, p *part) {
		Number(c, &p.N)
		Text(c, &p.Name)
		List(c, &p.Files, FD)
	}
	Number(c, &t.Signed)
	Number(c, &t.Size)
	Number(c, &t.Small)
	Truth(c, &t.Yes)
	Texts(c, &t.Texts)
	Text(c, &t.Raw)
	List(c, &t.Parts, walkPart)
	Maybe(c, &t.One, walkPart)
	FD(c, &t.FD)
	FD(c, &t.No)
	List(c, &t.Inodes, Number[uint64])
	Maybe(c, &t.Nothing, walkPart)
}

func TestRoundTrip(t *testing.T) {
	for _, sent := range []thing{
		{Raw: []byte{}, FD: -1, No: -1},
		{
			Signed: math.MinInt64, Size: math.MaxUint64, Small: 255, Yes: true, Texts: []string{"", "no \xff UTF-8\x00"}, Raw: []byte{0, 1},
			Parts: []part{{N: -1, Files: []int{7, 7, -1}}, {Name: "x", Files: []int{}}}, One: &part{N: math.MaxInt32, Files: []int{9}},
			FD: 7, No: -1, Inodes: []uint64{1 << 63},
		},
	} {
		w := Writer()
		sent.walk(w)
		data, fds, err := w.Written()
		require.NoError(t, err)
		var got thing
		r := Reader(data, fds)
		got.walk(r)
		require.NoError(t, r.Ended())
		assert.Equal(t, sent, got)
		if sent.Yes {
			assert.Equal(t, []int{7, 9}, fds)
		}

		// Every cut is noticed, and so is what is too much.
		for n := range data {
			var cut thing
			r := Reader(data[:n], fds)
			cut.walk(r)
			require.ErrorIs(t, r.Ended(), ErrMalformed, n)
		}
		r = Reader(append(data, 0), fds)
		got.walk(r)
		require.ErrorIs(t, r.Ended(), ErrMalformed)
		if len(fds) > 0 {
			r = Reader(data, fds[1:])
			got.walk(r)
			require.ErrorIs(t, r.Ended(), ErrMalformed, "a descriptor is missing")
		}
	}
}

// What is read and makes sense is written back as a thing that is read the same.
func FuzzCodec(f *testing.F) {
	w := Writer()
	(&thing{Signed: -5, Texts: []string{"a"}, Parts: []part{{Files: []int{1}}}, One: &part{}}).walk(w)
	data, _, _ := w.Written()
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, second thing
		r := Reader(data, []int{3, 4, 5})
		first.walk(r)
		if r.Ended() != nil {
			return
		}
		w := Writer()
		first.walk(w)
		again, fds, err := w.Written()
		require.NoError(t, err)
		r = Reader(again, fds)
		second.walk(r)
		require.NoError(t, r.Ended())
		require.Equal(t, first, second)
	})
}
