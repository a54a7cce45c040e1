package taskdef

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// decode holds a task definition to the ECS service model of the AWS SDK: no unknown field, no unknown
// value where the model lists them, every required field, and each name in the case that the API takes.
func decode(text []byte) (*ecs.RegisterTaskDefinitionInput, error) {
	d := new(ecs.RegisterTaskDefinitionInput)
	if err := decodeStrictly(text, d); err != nil {
		return nil, fmt.Errorf("not what ECS takes: %w", err)
	}
	sent, err := serialize(d)
	if err != nil {
		return nil, fmt.Errorf("not what ECS takes: %w", err)
	}
	return d, sameJSON(text, sent)
}

func decodeStrictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	return checkEnums(reflect.ValueOf(into))
}

// checkEnums checks every value whose type lists its values; encoding/json takes any string for them.
func checkEnums(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return checkEnums(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue
			}
			if err := checkEnums(v.Field(i)); err != nil {
				return fmt.Errorf("%s: %w", v.Type().Field(i).Name, err)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := checkEnums(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.String:
		return checkEnum(v)
	}
	return nil
}

func checkEnum(v reflect.Value) error {
	values := v.MethodByName("Values")
	if !values.IsValid() || v.String() == "" {
		return nil
	}
	known := values.Call(nil)[0]
	for i := range known.Len() {
		if known.Index(i).String() == v.String() {
			return nil
		}
	}
	return fmt.Errorf("%q is none of %v", v.String(), known)
}

// serialize is the request that the SDK sends for d, after its own check for required fields.
func serialize(d *ecs.RegisterTaskDefinitionInput) ([]byte, error) {
	return caught(func(catch aws.Config) error {
		_, err := ecs.NewFromConfig(catch).RegisterTaskDefinition(context.Background(), d)
		return err
	})
}

var errCaught = errors.New("not sent")

// caught is the body of the request that call would send.
func caught(call func(aws.Config) error) ([]byte, error) {
	var sent []byte
	err := call(aws.Config{
		Region:      "eu-central-1",
		Credentials: credentials.NewStaticCredentialsProvider("none", "none", ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
		HTTPClient: roundTrip(func(r *http.Request) (*http.Response, error) {
			var err error
			if sent, err = io.ReadAll(r.Body); err != nil {
				return nil, err
			}
			return nil, errCaught
		}),
	})
	if !errors.Is(err, errCaught) {
		return nil, err
	}
	return sent, nil
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) Do(r *http.Request) (*http.Response, error) { return f(r) }

// sameJSON fails on a name in the wrong case: encoding/json reads it, the API does not.
func sameJSON(written, sent []byte) error {
	var a, b any
	if err := errors.Join(json.Unmarshal(written, &a), json.Unmarshal(sent, &b)); err != nil {
		return err
	}
	if !reflect.DeepEqual(a, b) {
		return fmt.Errorf("the API reads this otherwise than it is written: check upper and lower case, and leave out empty values; it reads %s", sent)
	}
	return nil
}
