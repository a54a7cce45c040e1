package decrypt

import (
	"crypto/aes"
	block "crypto/cipher"
	"crypto/des"
	"errors"
)

// A cipher decrypts with its own IV or nonce.
type cipher interface {
	name() string
	keySize() int // in bytes
	decrypt(key, data []byte) ([]byte, error)
}

// A blockCipher describes a cipher that is read.
type blockCipher struct {
	name         string
	size, key    int // in bytes, of a block and of the key
	new          func(key []byte) (block.Block, error)
	authenticate bool // GCM; otherwise CBC
}

// The ciphers that are read, by object identifier.
var ciphers = map[string]blockCipher{
	"1.2.840.113549.3.7":      {name: "des-ede3-cbc", size: des.BlockSize, key: 24, new: des.NewTripleDESCipher},
	"2.16.840.1.101.3.4.1.2":  {name: "aes-128-cbc", size: aes.BlockSize, key: 16, new: aes.NewCipher},
	"2.16.840.1.101.3.4.1.6":  {name: "aes-128-gcm", size: aes.BlockSize, key: 16, new: aes.NewCipher, authenticate: true},
	"2.16.840.1.101.3.4.1.22": {name: "aes-192-cbc", size: aes.BlockSize, key: 24, new: aes.NewCipher},
	"2.16.840.1.101.3.4.1.26": {name: "aes-192-gcm", size: aes.BlockSize, key: 24, new: aes.NewCipher, authenticate: true},
	"2.16.840.1.101.3.4.1.42": {name: "aes-256-cbc", size: aes.BlockSize, key: 32, new: aes.NewCipher},
	"2.16.840.1.101.3.4.1.46": {name: "aes-256-gcm", size: aes.BlockSize, key: 32, new: aes.NewCipher, authenticate: true},
}

// examineCipher reads which cipher it is, and its parameters, for dataLen bytes of data.
func examineCipher(of algorithm, dataLen int) (cipher, error) {
	oid := of.OID.String()
	read, known := ciphers[oid]
	if !known {
		return nil, refuse(oid)
	}
	var iv []byte
	isIV := unmarshal(of, &iv) == nil
	if read.authenticate && (!isIV || len(iv) != read.size) {
		return examineGCM(read, of, iv, dataLen)
	}
	if !isIV || len(iv) != read.size {
		return nil, damaged("cipher")
	}
	if dataLen == 0 || dataLen%read.size != 0 {
		return nil, truncated(errors.New("its encrypted part is not whole blocks"))
	}
	return cbc{read, iv}, nil
}

// A cbc is CBC with the padding of PKCS#7. The Go library youmark/pkcs8 also encrypts with CBC, and an IV of 16 bytes,
// where it writes GCM.
type cbc struct {
	blockCipher
	iv []byte
}

func (c cbc) name() string { return c.blockCipher.name }
func (c cbc) keySize() int { return c.key }

var errDecrypt = errors.New("the padding or the tag is wrong")

func (c cbc) decrypt(key, data []byte) ([]byte, error) {
	cipher, err := c.new(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(data))
	block.NewCBCDecrypter(cipher, c.iv).CryptBlocks(plain, data)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > c.size {
		return nil, errDecrypt
	}
	for _, b := range plain[len(plain)-padding:] {
		if int(b) != padding {
			return nil, errDecrypt
		}
	}
	return plain[:len(plain)-padding], nil
}

// The nonce and tag of GCM, in bytes. RFC 5084 has tags of 12 bytes unless another length is written.
const (
	nonceSize      = 12
	defaultTagSize = 12
	maxTagSize     = 16
)

// examineGCM reads the parameters of RFC 5084, or a nonce alone, which implies the longest tag.
func examineGCM(read blockCipher, of algorithm, nonce []byte, dataLen int) (cipher, error) {
	params := struct {
		Nonce   []byte
		TagSize int `asn1:"optional,default:12"`
	}{nonce, maxTagSize}
	if nonce == nil {
		params.TagSize = defaultTagSize
		if unmarshal(of, &params) != nil {
			return nil, damaged("cipher")
		}
	}
	if len(params.Nonce) != nonceSize || params.TagSize < defaultTagSize || params.TagSize > maxTagSize {
		return nil, damaged("cipher")
	}
	if dataLen <= params.TagSize {
		return nil, truncated(errors.New("its encrypted part is shorter than its tag"))
	}
	return gcm{read, params.Nonce, params.TagSize}, nil
}

type gcm struct {
	blockCipher
	nonce   []byte
	tagSize int
}

func (c gcm) name() string { return c.blockCipher.name }
func (c gcm) keySize() int { return c.key }

func (c gcm) decrypt(key, data []byte) ([]byte, error) {
	cipher, err := c.new(key)
	if err != nil {
		return nil, err
	}
	aead, err := block.NewGCMWithTagSize(cipher, c.tagSize)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, c.nonce, data, nil)
	if err != nil {
		return nil, errDecrypt
	}
	return plain, nil
}
