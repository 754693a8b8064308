// Build FOLDER as Flux does and decrypt it with Flux's own decryptor: flux-decryptor AGE-KEY-FILE FOLDER.
//
// The decryptor is an internal package, which Go lets nobody import; so this file is built inside a copy of its module:
//
//	version=v1.9.4
//	go mod download github.com/fluxcd/kustomize-controller@$version
//	cp -r "$(go env GOMODCACHE)/github.com/fluxcd/kustomize-controller@$version" copy && chmod -R u+w copy
//	mkdir -p copy/cmd/flux-decryptor && cp bench/flux/main.go copy/cmd/flux-decryptor/
//	cd copy && api=github.com/fluxcd/kustomize-controller/api
//	go mod edit -dropreplace=$api -require=$api@$version
//	go build -mod=mod -o "$(go env GOPATH)/bin/flux-decryptor" ./cmd/flux-decryptor
//
// It stands for the controller at its best: nothing of Kubernetes is asked, and the key Secret is at hand.
package main

import (
	"context"
	"log"
	"os"

	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/kustomize-controller/internal/decryptor"
)

// cluster has one Secret, and that is all it has.
type cluster struct {
	client.Client
	identities []byte
}

func (c cluster) Get(_ context.Context, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	object.(*corev1.Secret).Data = map[string][]byte{"bench.agekey": c.identities}
	return nil
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	kustomization := &kustomizev1.Kustomization{}
	kustomization.Spec.Decryption = &kustomizev1.Decryption{
		Provider:  decryptor.DecryptionProviderSOPS,
		SecretRef: &meta.LocalObjectReference{Name: "bench"},
	}
	decrypt, cleanup, err := decryptor.New(cluster{identities: must(os.ReadFile(os.Args[1]))}, kustomization)
	if err != nil {
		log.Fatal(err)
	}
	defer cleanup()
	if err := decrypt.ImportKeys(context.Background()); err != nil {
		log.Fatal(err)
	}
	resources := must(krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), os.Args[2]))
	for _, resource := range resources.Resources() {
		must(decrypt.DecryptResource(resource))
	}
	must(os.Stdout.Write(must(resources.AsYaml())))
}
