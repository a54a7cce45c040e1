package localsnowflake

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// WithStages keeps stages in dir, to and from which drivers on this machine copy files. Without it there
// are none. With it every table exists, has whatever columns are inserted, and forgets them.
func WithStages(dir string) Option { return func(s *Server) { s.stages = dir } }

// createStage makes one: stages are directories, which PUT makes as it needs them.
type createStage struct{ acknowledged }

func (createStage) typeID() int64 { return typeDDL }

func (createStage) rows(sc *scope) ([][]*string, *failure) {
	if sc.server.stages == "" {
		return nil, noStage()
	}
	return executedRow, nil
}

func noStage() *failure {
	return &failure{code: ObjectNotFound, sqlState: "02000",
		message: "SQL compilation error:\nStage does not exist or not authorized."}
}

// transfer is PUT or GET. The server says where the stage is, and the driver copies.
type transfer struct {
	instant
	put       bool
	local     string // a file, or a pattern, or the directory to copy to
	stage     string // without the @
	overwrite bool
	compress  bool
}

var transferText = regexp.MustCompile(`(?is)^\s*(put|get)\s+('[^']*'|\S+)\s+('[^']*'|\S+)(.*)$`)

func parseTransfer(sql string) (statement, bool) {
	put, get := false, false
	parts := transferText.FindStringSubmatch(sql)
	if parts != nil {
		put, get = strings.EqualFold(parts[1], "put"), strings.EqualFold(parts[1], "get")
	}
	if !put && !get {
		return nil, false
	}
	file, stage := parts[2], parts[3]
	if get {
		file, stage = stage, file
	}
	file, isFile := strings.CutPrefix(strings.Trim(file, "'"), "file://")
	stage, isStage := strings.CutPrefix(strings.Trim(stage, "'"), "@")
	if !isFile || !isStage {
		return rejected{failure: parseFailure(sql, 0, "syntax error", "unexpected '"+parts[1]+"'")}, true
	}
	options := strings.ToLower(strings.ReplaceAll(parts[4], " ", ""))
	return transfer{
		put: put, local: file, stage: stage,
		overwrite: strings.Contains(options, "overwrite=true"), compress: !strings.Contains(options, "auto_compress=false"),
	}, true
}

func (transfer) typeID() int64           { return 0 }
func (transfer) columns(*scope) []column { return []column{} }

func (t transfer) rows(sc *scope) ([][]*string, *failure) {
	directory, ok := sc.directory(t.stage)
	if !ok {
		return nil, noStage()
	}
	if t.put && os.MkdirAll(directory, 0o700) != nil {
		return nil, noStage()
	}
	return nil, nil
}

// directory is where a path on a stage lies: @~ belongs to the user, any other to the session.
func (sc *scope) directory(stage string) (string, bool) {
	if sc.server.stages == "" || sc.session == nil || !filepath.IsLocal(stage) {
		return "", false
	}
	if own, ok := strings.CutPrefix(stage, "~"); ok {
		return filepath.Join(sc.server.stages, sc.user, "~", own), true
	}
	return filepath.Join(sc.server.stages, sc.user, strconv.FormatInt(sc.session.id, 10), stage), true
}

type transferData struct {
	queryData
	Command           string            `json:"command"`
	Sources           []string          `json:"src_locations"`
	LocalLocation     string            `json:"localLocation,omitempty"`
	Stage             map[string]string `json:"stageInfo"`
	Overwrite         bool              `json:"overwrite"`
	AutoCompress      bool              `json:"autoCompress"`
	SourceCompression string            `json:"sourceCompression"`
	Parallel          int               `json:"parallel"`
}

func (t transfer) data(sc *scope, q queryData) transferData {
	directory, _ := sc.directory(t.stage)
	data := transferData{
		queryData: q, Command: "UPLOAD", Sources: []string{t.local}, Overwrite: t.overwrite,
		AutoCompress: t.compress, SourceCompression: "auto_detect", Parallel: 4,
	}
	if !t.put {
		data.Command, data.LocalLocation = "DOWNLOAD", t.local
		directory, data.Sources = staged(directory)
	}
	data.Stage = map[string]string{"locationType": "LOCAL_FS", "location": directory, "path": path.Base(directory)}
	return data
}

// staged are the files at a path, which may be one of them.
func staged(at string) (directory string, files []string) {
	info, err := os.Stat(at)
	if err == nil && !info.IsDir() {
		return filepath.Dir(at), []string{filepath.Base(at)}
	}
	entries, _ := os.ReadDir(at)
	for _, e := range entries {
		files = append(files, e.Name())
	}
	return at, files
}

// insert counts the rows that it is given: literally, in bindings, or in a stage for bindings.
type insert struct {
	acknowledged
	table string
	lines int
}

const typeInsert = 0x3100

func (insert) typeID() int64 { return typeInsert }

func (insert) columns(*scope) []column {
	return []column{numberColumn("number of rows inserted", 19, 0)}
}

func (i insert) rows(sc *scope) ([][]*string, *failure) {
	if sc.server.stages == "" {
		return nil, noTable(i.table)
	}
	count := max(i.lines, bound(sc.bindings))
	if sc.bindStage != "" {
		lines, err := sc.stagedLines()
		if err != nil {
			return nil, noStage()
		}
		count = lines
	}
	return [][]*string{{orNull(strconv.Itoa(count))}}, nil
}

// bound is how many rows the bindings have: an array for each column, or a value.
func bound(bindings map[string]binding) (rows int) {
	for _, b := range bindings {
		var values []json.RawMessage
		if json.Unmarshal(b.Value, &values) == nil {
			rows = max(rows, len(values))
		}
	}
	return rows
}

func (sc *scope) stagedLines() (lines int, err error) {
	directory, ok := sc.directory(strings.TrimPrefix(sc.bindStage, "@"))
	if !ok {
		return 0, os.ErrNotExist
	}
	directory, files := staged(directory)
	for _, name := range files {
		n, err := countLines(filepath.Join(directory, name))
		if err != nil {
			return 0, err
		}
		lines += n
	}
	return lines, nil
}

func countLines(name string) (lines int, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var content io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		unzipped, err := gzip.NewReader(f)
		if err != nil {
			return 0, err
		}
		unzipped.Multistream(false) // the driver pads what it writes to a local stage
		content = unzipped
	}
	scanner := bufio.NewScanner(content)
	for scanner.Scan() {
		lines++
	}
	return lines, scanner.Err()
}
