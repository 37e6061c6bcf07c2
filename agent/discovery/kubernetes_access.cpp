// SPDX-License-Identifier: Apache-2.0
#include "discovery/kubernetes_access.hpp"

#include <cstdlib>
#include <utility>

#include "base/fd.hpp"
#include "discovery/yaml_reader.hpp"

namespace mesh::discovery::kubernetes {

using base::ErrorKind;

namespace {

constexpr std::size_t kMaxKubeconfig = 1u << 20;

std::string text_at(const Value* map, std::string_view key) {
  const Value* const value = map == nullptr ? nullptr : map->find(key);
  return value != nullptr && value->is_scalar() && value->kind != Value::Kind::kNull ? value->text : "";
}

/// "https://host:6443" of whatever somebody wrote.
base::Result<std::string> server_url(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  if (!url.starts_with("https://") && !url.starts_with("http://")) {
    return base::fail(ErrorKind::kInvalid, "reach the Kubernetes API server '" + url + "': no http:// or https:// URL",
                      "write https://HOST:PORT");
  }
  return url;
}

/// One file of a kubeconfig: what its lists say about one name.
class Kubeconfig {
 public:
  Kubeconfig(const Value& root, std::string path) : root_(root), path_(std::move(path)) {}

  /// The map under `key` of the element of `list` that is called `name`.
  base::Result<const Value*> entry(std::string_view list, std::string_view name, std::string_view key) const {
    const Value* const elements = root_.find(list);
    if (elements != nullptr && elements->kind == Value::Kind::kList) {
      for (const Value& element : elements->items) {
        if (text_at(&element, "name") != name) continue;
        if (const Value* const found = element.find(key); found != nullptr && found->kind == Value::Kind::kMap) {
          return found;
        }
      }
    }
    return base::fail(ErrorKind::kInvalid,
                      "read " + path_ + ": no '" + std::string(name) + "' in " + std::string(list));
  }

  /// `KEY-data` as base64, else the file `KEY`, relative to this one.
  base::Result<http::Pem> pem(const Value* map, const std::string& key) const {
    if (const std::string data = text_at(map, key + "-data"); !data.empty()) {
      auto text = decode_base64(data);
      if (!text || text->empty()) {
        return base::fail(ErrorKind::kInvalid, "read " + path_ + ": " + key + "-data is no base64");
      }
      return http::Pem{.text = std::move(*text)};
    }
    return http::Pem{.file = file(text_at(map, key))};
  }

  [[nodiscard]] std::string file(const std::string& name) const {
    if (name.empty() || name.starts_with('/')) return name;
    return path_.substr(0, path_.rfind('/') + 1) + name;
  }

 private:
  const Value& root_;
  std::string path_;
};

base::Result<Access> in_pod(const Surroundings& around) {
  const auto host = around.environment("KUBERNETES_SERVICE_HOST");
  const auto port = around.environment("KUBERNETES_SERVICE_PORT");
  Access access;
  if (host && port && !host->empty()) {
    access.server = "https://" + (host->contains(':') ? "[" + *host + "]" : *host) + ":" + *port;
  }
  access.fetch.credentials = {{.file = around.service_account + "/token"}};
  access.fetch.tls.ca.file = around.service_account + "/ca.crt";
  return access;
}

}  // namespace

Surroundings surroundings() {
  return {.environment =
              [](const char* name) {
                const char* const value = std::getenv(name);
                return value == nullptr ? std::nullopt : std::optional<std::string>(value);
              },
          .service_account = "/var/run/secrets/kubernetes.io/serviceaccount"};
}

base::Result<Access> find_access(const KubernetesSettings& settings, const Surroundings& around) {
  Access access;
  if (settings.kubeconfig.empty()) {
    access = MESH_TRY(in_pod(around));
  } else {
    const std::string text = MESH_TRY(base::read_file(settings.kubeconfig, kMaxKubeconfig));
    access = MESH_TRY(read_kubeconfig(text, settings.kubeconfig, settings.context));
  }
  if (!settings.api_server.empty()) access.server = settings.api_server;
  if (access.server.empty()) {
    return base::fail(ErrorKind::kInvalid, "find the Kubernetes API server: this is no pod of a cluster",
                      "set kubeconfig, or api_server");
  }
  access.server = MESH_TRY(server_url(access.server));
  if (!settings.tls_server_name.empty()) access.fetch.tls.server_name = settings.tls_server_name;
  return access;
}

base::Result<Access> read_kubeconfig(std::string_view text, const std::string& path, std::string_view context) {
  Findings findings;
  const Document document(path, text);
  const auto root = read_yaml(document, text, findings);
  if (findings.error_count() > 0) return std::unexpected(findings.to_error());
  const Kubeconfig file(*root, path);
  const std::string wanted = context.empty() ? text_at(&*root, "current-context") : std::string(context);
  if (wanted.empty()) {
    return base::fail(ErrorKind::kInvalid, "read " + path + ": it has no current-context", "set context");
  }
  const Value* const chosen = MESH_TRY(file.entry("contexts", wanted, "context"));
  const Value* const cluster = MESH_TRY(file.entry("clusters", text_at(chosen, "cluster"), "cluster"));

  Access access;
  access.server = MESH_TRY(server_url(text_at(cluster, "server")));
  http::FetchTls& tls = access.fetch.tls;
  tls.ca = MESH_TRY(file.pem(cluster, "certificate-authority"));
  tls.server_name = text_at(cluster, "tls-server-name");
  tls.verify = text_at(cluster, "insecure-skip-tls-verify") != "true";
  access.fetch.proxy = text_at(cluster, "proxy-url");

  const std::string user_name = text_at(chosen, "user");
  if (user_name.empty()) return access;
  const Value* const user = MESH_TRY(file.entry("users", user_name, "user"));
  for (const std::string_view refused : {"exec", "auth-provider", "username", "password"}) {
    if (user->find(refused) == nullptr) continue;
    return base::fail(ErrorKind::kUnsupported,
                      "read " + path + ": user '" + user_name + "' has '" + std::string(refused) + "'",
                      "the agent runs no programs and knows no passwords: give it a token, a tokenFile or a client "
                      "certificate, as of a service account");
  }
  if (const std::string token_file = text_at(user, "tokenFile"); !token_file.empty()) {
    access.fetch.credentials = {{.file = file.file(token_file)}};
  } else if (const std::string token = text_at(user, "token"); !token.empty()) {
    access.fetch.credentials = {{.value = token}};
  }
  tls.certificate = MESH_TRY(file.pem(user, "client-certificate"));
  tls.key = MESH_TRY(file.pem(user, "client-key"));
  return access;
}

std::optional<std::string> decode_base64(std::string_view text) {
  std::string decoded;
  std::uint32_t bits = 0;
  unsigned count = 0;
  unsigned padding = 0;
  for (const char c : text) {
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t') continue;
    if (c == '=') {
      ++padding;
      continue;
    }
    unsigned value = 0;
    if (c >= 'A' && c <= 'Z') {
      value = static_cast<unsigned>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<unsigned>(c - 'a') + 26;
    } else if (c >= '0' && c <= '9') {
      value = static_cast<unsigned>(c - '0') + 52;
    } else if (c == '+' || c == '/') {
      value = c == '+' ? 62 : 63;
    } else {
      return std::nullopt;
    }
    if (padding > 0) return std::nullopt;
    bits = bits << 6 | value;
    if (++count % 4 == 0) {
      decoded += {static_cast<char>(bits >> 16), static_cast<char>(bits >> 8), static_cast<char>(bits)};
    }
  }
  if ((count + padding) % 4 != 0 || padding > 2) return std::nullopt;
  if (padding == 2) decoded += static_cast<char>(bits >> 4);
  if (padding == 1) decoded += {static_cast<char>(bits >> 10), static_cast<char>(bits >> 2)};
  return decoded;
}

}  // namespace mesh::discovery::kubernetes
