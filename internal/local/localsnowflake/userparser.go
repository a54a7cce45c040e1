package localsnowflake

import (
	"fmt"
	"strconv"
	"strings"
)

func (p *parser) describeUser() statement {
	name, ok := p.identifier()
	if !ok {
		return p.unexpected()
	}
	return describeUser{user: name}
}

func (p *parser) showKeyPairs() statement {
	if !p.words("FOR", "USER") {
		return showKeyPairs{}
	}
	name, ok := p.identifier()
	if !ok {
		return p.unexpected()
	}
	return showKeyPairs{user: name}
}

// keyPairActions are the changes that can be made to a named key pair.
var keyPairActions = []string{"ADD", "ROTATE", "MODIFY", "REMOVE"}

func (p *parser) alterUser() statement {
	ifExists := p.words("IF", "EXISTS")
	var name string // without one, it is about the current user
	if !p.atUserAction() {
		var ok bool
		if name, ok = p.identifier(); !ok {
			return p.unexpected()
		}
	}
	switch {
	case p.words("SET"):
		return p.setProperties(alterUser{user: name, ifExists: ifExists})
	case p.words("UNSET"):
		return p.unsetProperties(alterUser{user: name, ifExists: ifExists})
	}
	return p.keyPairStatement(alterKeyPair{user: name, ifExists: ifExists})
}

// atUserAction tells whether the next word is an action, rather than a user's name.
func (p *parser) atUserAction() bool {
	if p.isWord("SET") || p.isWord("UNSET") {
		return true
	}
	from := p.next
	defer func() { p.next = from }()
	for _, action := range keyPairActions {
		if p.words(action, "KEY", "PAIR") {
			return true
		}
	}
	return false
}

func (p *parser) setProperties(alter alterUser) statement {
	properties, bad := p.assignments("USER", "RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2", "DISABLED", "MINS_TO_UNLOCK")
	if bad != nil {
		return bad
	}
	for _, a := range properties {
		var failure *failure
		switch a.property {
		case "DISABLED":
			alter.disabled, failure = a.boolean()
		case "MINS_TO_UNLOCK":
			alter.lockMinutes, failure = a.number()
		default:
			var value *string
			if value, failure = a.textOrNull(); failure == nil {
				alter.keys = append(alter.keys, keyChange{slot: keySlot(a.property), value: *value})
			}
		}
		if failure != nil {
			return rejected{failure: failure}
		}
	}
	return alter
}

func keySlot(property string) int {
	if property == keyProperties[1].property {
		return 1
	}
	return 0
}

func (p *parser) unsetProperties(alter alterUser) statement {
	enabled, unlocked := false, 0
	names, bad := p.propertyNames("USER", "RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2", "DISABLED", "MINS_TO_UNLOCK")
	if bad != nil {
		return bad
	}
	for _, name := range names {
		switch name {
		case "DISABLED":
			alter.disabled = &enabled
		case "MINS_TO_UNLOCK":
			alter.lockMinutes = &unlocked
		default:
			alter.keys = append(alter.keys, keyChange{slot: keySlot(name)})
		}
	}
	return alter
}

// keyPairStatement reads which change is made to which key pair.
func (p *parser) keyPairStatement(alter alterKeyPair) statement {
	action := strings.ToUpper(p.peek().text)
	for _, known := range keyPairActions {
		if !p.words(known, "KEY", "PAIR") {
			continue
		}
		name, ok := p.identifier()
		if !ok {
			return p.unexpected()
		}
		change, bad := p.keyPairChange(action)
		if bad != nil {
			return bad
		}
		alter.name, alter.change = name, change
		return alter
	}
	return p.unexpected()
}

func (p *parser) keyPairChange(action string) (keyPairChange, statement) {
	switch action {
	case "ADD":
		return p.addKeyPair()
	case "ROTATE":
		return p.rotateKeyPair()
	case "MODIFY":
		return p.modifyKeyPair()
	}
	return removeKeyPair{}, nil
}

func (p *parser) addKeyPair() (keyPairChange, statement) {
	properties, bad := p.assignments("KEY PAIR", "PUBLIC_KEY", "ROLE_RESTRICTION", "DAYS_TO_EXPIRY", "COMMENT")
	if bad != nil {
		return nil, bad
	}
	var add addKeyPair
	for _, a := range properties {
		var failure *failure
		switch a.property {
		case "PUBLIC_KEY":
			failure = a.store(&add.key)
		case "ROLE_RESTRICTION":
			if failure = a.store(&add.role); failure == nil {
				add.role = unquoted(add.role)
			}
		case "COMMENT":
			failure = a.store(&add.comment)
		case "DAYS_TO_EXPIRY":
			var days *int
			if days, failure = a.number(); failure == nil && *days < 1 {
				failure = a.invalid()
			}
			if failure == nil {
				add.days = *days
			}
		}
		if failure != nil {
			return nil, rejected{failure: failure}
		}
	}
	return add, nil
}

func (p *parser) rotateKeyPair() (keyPairChange, statement) {
	properties, bad := p.assignments("KEY PAIR", "PUBLIC_KEY", "EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS")
	if bad != nil {
		return nil, bad
	}
	var rotate rotateKeyPair
	for _, a := range properties {
		var failure *failure
		if a.property == "PUBLIC_KEY" {
			failure = a.store(&rotate.key)
		} else {
			rotate.hours, failure = a.number()
			if failure == nil && *rotate.hours < 0 {
				failure = a.invalid()
			}
		}
		if failure != nil {
			return nil, rejected{failure: failure}
		}
	}
	return rotate, nil
}

func (p *parser) modifyKeyPair() (keyPairChange, statement) {
	switch {
	case p.words("RENAME", "TO"):
		name, ok := p.identifier()
		if !ok {
			return nil, p.unexpected()
		}
		return modifyKeyPair{renameTo: &name}, nil
	case p.words("SET"):
		return p.setKeyPair()
	case p.words("UNSET"):
		return p.unsetKeyPair()
	}
	return nil, p.unexpected()
}

func (p *parser) setKeyPair() (keyPairChange, statement) {
	properties, bad := p.assignments("KEY PAIR", "DISABLED", "COMMENT")
	if bad != nil {
		return nil, bad
	}
	var modify modifyKeyPair
	for _, a := range properties {
		var failure *failure
		if a.property == "DISABLED" {
			modify.disabled, failure = a.boolean()
		} else {
			modify.comment, failure = a.textOrNull()
		}
		if failure != nil {
			return nil, rejected{failure: failure}
		}
	}
	return modify, nil
}

func (p *parser) unsetKeyPair() (keyPairChange, statement) {
	names, bad := p.propertyNames("KEY PAIR", "DISABLED", "COMMENT")
	if bad != nil {
		return nil, bad
	}
	enabled, none := false, ""
	var modify modifyKeyPair
	for _, name := range names {
		if name == "DISABLED" {
			modify.disabled = &enabled
		} else {
			modify.comment = &none
		}
	}
	return modify, nil
}

// assignment is one PROPERTY = value.
type assignment struct {
	property string
	value    lexeme
}

// assignments takes at least one, with blanks or commas between them.
func (p *parser) assignments(of string, allowed ...string) ([]assignment, statement) {
	var taken []assignment
	for {
		property, bad := p.propertyName(of, allowed)
		if bad != nil {
			return nil, bad
		}
		if !p.symbol("=") {
			return nil, p.unexpected()
		}
		value := p.literal()
		if value.kind == symbol || value.kind == endOfText {
			return nil, p.unexpected()
		}
		taken = append(taken, assignment{property, value})
		if !p.symbol(",") && p.peek().kind != word {
			return taken, nil
		}
	}
}

// literal takes a value; a number may have a sign.
func (p *parser) literal() lexeme {
	if l := p.peek(); l.kind == endOfText || l.kind == symbol && l.text != "-" {
		return l
	}
	l := p.take()
	if l.kind == symbol && p.peek().kind == number {
		signed := p.take()
		return lexeme{number, "-" + signed.text, l.at}
	}
	return l
}

// propertyNames takes at least one, with commas between them.
func (p *parser) propertyNames(of string, allowed ...string) ([]string, statement) {
	var names []string
	for {
		name, bad := p.propertyName(of, allowed)
		if bad != nil {
			return nil, bad
		}
		names = append(names, name)
		if !p.symbol(",") {
			return names, nil
		}
	}
}

func (p *parser) propertyName(of string, allowed []string) (string, statement) {
	name, ok := p.identifier()
	if !ok {
		return "", p.unexpected()
	}
	for _, known := range allowed {
		if name == known {
			return name, nil
		}
	}
	return "", rejected{failure: &failure{code: InvalidUserProperty, sqlState: "22023",
		message: fmt.Sprintf("SQL compilation error:\ninvalid property '%s' for '%s'", name, of)}}
}

func (a assignment) invalid() *failure {
	value := a.value.text
	if a.value.kind == text {
		value = "'" + value + "'"
	}
	return invalidValue(value, a.property)
}

func (a assignment) isWord(keyword string) bool {
	return a.value.kind == word && strings.EqualFold(a.value.text, keyword)
}

// textOrNull is the text, empty for NULL.
func (a assignment) textOrNull() (*string, *failure) {
	value := ""
	if a.isWord("NULL") {
		return &value, nil
	}
	failure := a.store(&value)
	return &value, failure
}

func (a assignment) store(into *string) *failure {
	if a.value.kind != text {
		return a.invalid()
	}
	*into = a.value.text
	return nil
}

func (a assignment) boolean() (*bool, *failure) {
	value := a.isWord("TRUE")
	if !value && !a.isWord("FALSE") {
		return nil, a.invalid()
	}
	return &value, nil
}

func (a assignment) number() (*int, *failure) {
	n, err := strconv.ParseInt(a.value.text, 10, 32)
	if a.value.kind != number || err != nil {
		return nil, a.invalid()
	}
	value := int(n)
	return &value, nil
}
