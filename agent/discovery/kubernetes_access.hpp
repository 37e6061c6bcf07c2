// SPDX-License-Identifier: Apache-2.0
// How to reach a Kubernetes API server: from within a pod by what the kubelet put there, from elsewhere by a
// kubeconfig.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "discovery/kubernetes_keys.hpp"
#include "http/fetch.hpp"

namespace mesh::discovery::kubernetes {

struct Access {
  std::string server;  ///< "https://10.0.0.1:6443", without a final slash.
  http::FetchSettings fetch;
};

/// What a process finds around itself.
struct Surroundings {
  std::function<std::optional<std::string>(const char* name)> environment;
  std::string service_account;  ///< The folder where the kubelet puts token and ca.crt.
};
Surroundings surroundings();  ///< Of this process.

/// In a pod, unless the settings name a kubeconfig. Credentials in files are not read here, but for each request.
base::Result<Access> find_access(const KubernetesSettings& settings, const Surroundings& around);

/// A kubeconfig: cluster and user of a context (empty: the current one). `path` is for messages and relative file
/// names. Programs that make credentials (exec, auth-provider) are refused.
base::Result<Access> read_kubeconfig(std::string_view text, const std::string& path, std::string_view context);

/// RFC 4648 with padding; nothing for anything else. White space is skipped.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace mesh::discovery::kubernetes
