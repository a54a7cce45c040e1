package localsnowflake

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// newQueryID makes an id like Snowflake's, which begin with 01.
func newQueryID() string {
	id := randomID()
	id[0] = 0x01
	return dashed(id)
}

func newUUID() string {
	id := randomID()
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return dashed(id)
}

func randomID() (id [16]byte) {
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	return id
}

func dashed(id [16]byte) string {
	text := make([]byte, 0, 36)
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, []byte{b})
	}
	return string(text)
}
