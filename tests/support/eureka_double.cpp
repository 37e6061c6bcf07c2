// SPDX-License-Identifier: Apache-2.0
#include "tests/support/eureka_double.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "base/fd.hpp"
#include "http/fetch.hpp"
#include "tests/support/peer.hpp"

namespace mesh::test {

using namespace std::chrono_literals;

namespace {

constexpr int kLabPort = 8761;  // in a namespace of its own any port is free

void write_text(const std::string& path, const std::string& text) {
  if (const auto written = base::write_file_atomically(path, text); !written) {
    throw std::runtime_error(written.error().to_string());
  }
}

nlohmann::json registration(const std::string& app, const std::string& id, const std::string& address, int port) {
  return {
      {"instanceId", id},
      {"hostName", id},
      {"app", app},
      {"ipAddr", address},
      {"vipAddress", app},
      {"status", "UP"},
      {"port", {{"$", port}, {"@enabled", "true"}}},
      {"dataCenterInfo", {{"@class", "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo"}, {"name", "MyOwn"}}}};
}

}  // namespace

EurekaServer::EurekaServer(Where where) : where_(std::move(where)) {
  if (const char* const named = std::getenv("MESH_E2E_EUREKA")) {
    real_ = true;
    url_ = named;
    return;
  }
  port_ = where_.spawn.netns >= 0 ? kLabPort : free_port();
  start();
}

EurekaServer::~EurekaServer() {
  if (!real_) return;
  for (const auto& [app, id] : std::vector(registered_)) {
    try {
      remove(app, id);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "instance %s of %s stays: %s\n", id.c_str(), app.c_str(), error.what());
    }
  }
}

std::string EurekaServer::app(const std::string& name) {
  std::string upper = name + "-" + std::to_string(::getpid());
  std::ranges::transform(upper, upper.begin(), [](char c) { return c >= 'a' && c <= 'z' ? c - 32 : c; });
  return upper;
}

void EurekaServer::use_tls(std::chrono::system_clock::time_point end) {
  tls_ = true;
  if (!authority_) authority_ = make_authority("eureka double", std::chrono::system_clock::now() + 24h);
  const CertificatePem pem = make_certificate_for("IP:" + where_.address, end, &*authority_);
  write_text(ca_file(), authority_->certificate);
  write_text(file("cert.pem"), pem.certificate);
  write_text(file("key.pem"), pem.key);
}

void EurekaServer::start(const std::vector<std::string>& options) {
  process_.reset();
  ::unlink(file("control.sock").c_str());
  url_ = std::string(tls_ ? "https://" : "http://") + where_.address + ":" + std::to_string(port_) + "/eureka";
  std::vector<std::string> arguments = {"python3",   std::string(MESH_SOURCE_DIR) + "/tests/doubles/eureka_double.py",
                                        "--host",    where_.address,
                                        "--port",    std::to_string(port_),
                                        "--control", file("control.sock")};
  if (tls_) {
    const std::vector<std::string> files = {"--cert", file("cert.pem"), "--key", file("key.pem")};
    arguments.insert(arguments.end(), files.begin(), files.end());
  }
  arguments.insert(arguments.end(), options.begin(), options.end());
  SpawnOptions spawn = where_.spawn;
  spawn.output = file("double.log");
  process_ = Process::start(spawn, arguments);
  const bool up = eventually(30s, [&] {
    try {
      control("GET", "/stats");
      return true;
    } catch (const std::runtime_error&) {
      return false;
    }
  });
  if (!up) throw std::runtime_error("the Eureka double does not answer; see " + spawn.output);
}

EurekaServer::Json EurekaServer::control(const std::string& method, const std::string& path, const Json& body) {
  http::Fetcher fetcher({.unix_socket = file("control.sock")});
  const auto answer = fetcher.fetch({.method = method,
                                     .url = "http://localhost" + path,
                                     .body = body.is_null() ? "" : body.dump(),
                                     .deadline = 60s,
                                     .no_progress = 60s},
                                    -1);
  if (!answer) throw std::runtime_error(answer.error().to_string());
  if (!answer->ok()) throw std::runtime_error(http::status_error(*answer, method + " " + path).to_string());
  return answer->body.empty() ? Json() : Json::parse(answer->body);
}

/// With curl, which runs where the double runs.
void EurekaServer::write(const std::string& method, const std::string& path, const Json& body) {
  std::vector<std::string> arguments = {"curl", "-sS", "-k", "-m", "20", "--fail-with-body", "-X", method, url_ + path};
  if (!body.is_null()) {
    const std::vector<std::string> more = {"-H", "Content-Type: application/json", "-d", body.dump()};
    arguments.insert(arguments.end(), more.begin(), more.end());
  }
  SpawnOptions spawn = where_.spawn;
  spawn.output.clear();
  must_run(arguments, spawn);
}

std::vector<std::string> EurekaServer::with(const std::string& app, const std::string& id, const std::string& address,
                                            int port) {
  return {"--register", registration(app, id, address, port).dump()};
}

void EurekaServer::add(const std::string& app, const std::string& id, const std::string& address, int port,
                       const Json& more) {
  Json instance = registration(app, id, address, port);
  instance.update(more);
  if (real_ && std::ranges::find(registered_, std::pair(app, id)) == registered_.end())
    registered_.emplace_back(app, id);
  write("POST", "/apps/" + app, {{"instance", instance}});
}

void EurekaServer::remove(const std::string& app, const std::string& id) {
  std::erase(registered_, std::pair(app, id));
  write("DELETE", "/apps/" + app + "/" + id);
}

void EurekaServer::order(const std::string& app, const std::string& id, const std::string& status) {
  write("PUT", "/apps/" + app + "/" + id + "/status?value=" + status);
}

}  // namespace mesh::test
