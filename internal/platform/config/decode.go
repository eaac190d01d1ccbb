package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"flywheel/internal/platform/fault"
)

// decode reads a YAML node into a setting and notes the origin of every leaf.
func (c *Config) decode(n ast.Node, v reflect.Value, path string) {
	switch {
	case n.Type() == ast.NullType:
		return // an empty key leaves the default
	case n.Type() == ast.AnchorType, n.Type() == ast.AliasType, n.Type() == ast.MergeKeyType:
		c.problemAt(n, "config.anchor", "anchors and aliases are not read here", "write the value out")
	case isLeaf(v.Type()):
		c.decodeLeaf(n, v, path)
	case v.Kind() == reflect.Struct:
		for _, e := range c.entriesOf(n, path) {
			key := keyOf(e)
			f, ok := fieldNamed(v, key)
			if !ok {
				c.unknown(e, path+"."+key, fieldNames(v.Type()))
				continue
			}
			c.decode(e.Value, f, path+"."+key)
		}
	case v.Kind() == reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		for _, e := range c.entriesOf(n, path) {
			item := reflect.New(v.Type().Elem()).Elem()
			if old := v.MapIndex(reflect.ValueOf(keyOf(e))); old.IsValid() {
				item.Set(old)
			}
			c.decode(e.Value, item, path+"."+keyOf(e))
			v.SetMapIndex(reflect.ValueOf(keyOf(e)).Convert(v.Type().Key()), item)
		}
	default:
		panic(fmt.Sprintf("config: %s has the type %s, which settings cannot have", path, v.Type()))
	}
}

func (c *Config) decodeLeaf(n ast.Node, v reflect.Value, path string) {
	c.origins[path] = fmt.Sprintf("%s:%d", filepath.Base(c.file), n.GetToken().Position.Line)
	if list, ok := n.(*ast.SequenceNode); ok && v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
		for i, item := range list.Values {
			c.setScalar(item, v.Index(i), path)
		}
		return
	}
	c.setScalar(n, v, path)
}

func (c *Config) setScalar(n ast.Node, v reflect.Value, path string) {
	var text string
	switch n := n.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = n.Value.Value
	case ast.ScalarNode:
		text = n.GetToken().Value
	default:
		c.problemAt(n, "config.type", path+" must be "+kindName(v.Type()), "")
		return
	}
	if err := setText(v, text); err != nil {
		c.problemAt(n, "config.value", path+": "+err.Error(), "")
	}
}

func (c *Config) entriesOf(n ast.Node, path string) []*ast.MappingValueNode {
	list := entries(n)
	if list == nil {
		c.problemAt(n, "config.type", path+" must be keys and values", "")
	}
	seen := map[string]bool{}
	for _, e := range list {
		if seen[keyOf(e)] {
			c.problemAt(e.Key, "config.duplicate", keyOf(e)+" is written twice", "")
		}
		seen[keyOf(e)] = true
	}
	return list
}

func entries(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		if n.Values == nil {
			return []*ast.MappingValueNode{}
		}
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

func keyOf(e *ast.MappingValueNode) string { return e.Key.GetToken().Value }

func (c *Config) unknown(e *ast.MappingValueNode, path string, known []string) {
	hint := ""
	if s := fault.Suggest(keyOf(e), known); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	c.problemAt(e.Key, "config.unknown_key", "there is no setting "+path, hint)
}

func (c *Config) problemAt(n ast.Node, code, message, hint string) {
	p := n.GetToken().Position
	c.problem(fmt.Sprintf("%s:%d:%d", c.file, p.Line, p.Column), code, message, hint)
}

func (c *Config) syntax(err error) {
	where, message := c.file, err.Error()
	var y yaml.Error
	if errors.As(err, &y) {
		message = y.GetMessage()
		if t := y.GetToken(); t != nil {
			where = fmt.Sprintf("%s:%d:%d", c.file, t.Position.Line, t.Position.Column)
		}
	}
	c.problem(where, "config.yaml", message, "")
}
