// Reads a ledger with the code that the formats come from: golang.org/x/mod/sumdb. Arguments: the directory,
// the public key, and the size of an earlier tree. Prints a line a leaf, the sequence being its place, when all
// of it is in the tree that the key has signed; the first thing that is wrong ends it with exit code 1.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type directory string

func (d directory) Height() int { return 8 }

func (d directory) SaveTiles([]tlog.Tile, [][]byte) {}

// Go names a tile "tile/8/0/001"; C2SP leaves the height out.
func (d directory) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		path := "tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")
		data, err := os.ReadFile(filepath.Join(string(d), path))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	log.SetFlags(0)
	root := directory(os.Args[1])
	verifier, err := note.NewVerifier(os.Args[2])
	check(err)
	earlier, err := strconv.ParseInt(os.Args[3], 10, 64)
	check(err)

	signed, err := os.ReadFile(filepath.Join(string(root), "checkpoint"))
	check(err)
	opened, err := note.Open(signed, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	hash, err := tlog.ParseHash(lines[2])
	check(err)

	// The reader compares every tile with the root before it gives a hash of it away.
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: hash}, root)
	var bundle []byte
	for n := int64(0); n < size; n++ {
		if n%256 == 0 {
			tile := tlog.Tile{H: 8, L: 0, N: n / 256, W: 256}
			if size-n < 256 {
				tile.W = int(size - n)
			}
			path := "tile/entries/" + strings.TrimPrefix(tile.Path(), "tile/8/0/")
			bundle, err = os.ReadFile(filepath.Join(string(root), path))
			check(err)
		}
		length := binary.BigEndian.Uint16(bundle)
		leaf := bundle[2 : 2+int(length)]
		bundle = bundle[2+int(length):]
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, n)})
		check(err)
		if hashes[0] != tlog.RecordHash(leaf) {
			log.Fatalf("leaf %d is not in the tree", n)
		}
		if n%97 == 0 || n == size-1 {
			proof, err := tlog.ProveRecord(size, n, reader)
			check(err)
			check(tlog.CheckRecord(proof, size, hash, n, tlog.RecordHash(leaf)))
			for _, item := range proof {
				fmt.Printf("%d %s\n", n, base64.StdEncoding.EncodeToString(item[:]))
			}
		}
		if !bytes.Contains(leaf, []byte(fmt.Sprintf(`"sequence":%d,`, n+1))) {
			log.Fatalf("leaf %d has another sequence", n)
		}
	}
	older, err := tlog.TreeHash(earlier, reader)
	check(err)
	proof, err := tlog.ProveTree(size, earlier, reader)
	check(err)
	check(tlog.CheckTree(proof, size, hash, earlier, older))
	fmt.Printf("verified %d %s\n", size, older)
}
