// SPDX-License-Identifier: Apache-2.0
#include "tests/support/consul_double.hpp"

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

void write_text(const std::string& path, const std::string& text) {
  if (const auto written = base::write_file_atomically(path, text); !written) {
    throw std::runtime_error(written.error().to_string());
  }
}

nlohmann::json registration(const std::string& service, const std::string& id, const std::string& address, int port,
                            const std::string& status) {
  return {{"Name", service},
          {"ID", id},
          {"Address", address},
          {"Port", port},
          {"Check", {{"CheckID", "check-" + id}, {"TTL", "10m"}, {"Status", status}}}};
}

std::string ask(const http::FetchSettings& settings, const std::string& method, const std::string& url,
                const nlohmann::json& body) {
  http::Fetcher fetcher(settings);
  const auto answer = fetcher.fetch(
      {.method = method, .url = url, .body = body.is_null() ? "" : body.dump(), .deadline = 60s, .no_progress = 60s},
      -1);
  if (!answer) throw std::runtime_error(answer.error().to_string());
  if (!answer->ok()) throw std::runtime_error(http::status_error(*answer, method + " " + url).to_string());
  return answer->body;
}

}  // namespace

ConsulServer::ConsulServer(Where where) : where_(std::move(where)) {
  if (const char* const named = std::getenv("MESH_E2E_CONSUL")) {
    real_ = true;
    url_ = named;
    return;
  }
  port_ = free_port();
  start();
}

ConsulServer::~ConsulServer() {
  if (!real_) return;
  for (const std::string& id : std::vector(ids_)) {
    try {
      remove(id);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "instance %s stays: %s\n", id.c_str(), error.what());
    }
  }
}

std::string ConsulServer::name(const std::string& name) const { return name + "-" + std::to_string(::getpid()); }

void ConsulServer::use_tls(std::chrono::system_clock::time_point end) {
  tls_ = true;
  if (!authority_) authority_ = make_authority("consul double", std::chrono::system_clock::now() + 24h);
  const CertificatePem pem = make_certificate_for("IP:" + where_.address, end, &*authority_);
  write_text(ca_file(), authority_->certificate);
  write_text(where_.folder + "/cert.pem", pem.certificate);
  write_text(where_.folder + "/key.pem", pem.key);
}

void ConsulServer::start(const std::vector<std::string>& options) {
  process_.reset();
  for (const char* const socket : {"/consul.sock", "/control.sock"}) ::unlink((where_.folder + socket).c_str());
  url_ = std::string(tls_ ? "https://" : "http://") + where_.address + ":" + std::to_string(port_);
  std::vector<std::string> arguments = {"python3",   std::string(MESH_SOURCE_DIR) + "/tests/doubles/consul_double.py",
                                        "--host",    where_.address,
                                        "--port",    std::to_string(port_),
                                        "--unix",    socket(),
                                        "--control", where_.folder + "/control.sock"};
  if (tls_) {
    const std::vector<std::string> files = {"--cert", where_.folder + "/cert.pem", "--key", where_.folder + "/key.pem"};
    arguments.insert(arguments.end(), files.begin(), files.end());
  }
  arguments.insert(arguments.end(), options.begin(), options.end());
  SpawnOptions spawn = where_.spawn;
  spawn.output = where_.folder + "/double.log";
  process_ = Process::start(spawn, arguments);
  const bool up = eventually(30s, [&] {
    try {
      control("GET", "/stats");
      return true;
    } catch (const std::runtime_error&) {
      return false;
    }
  });
  if (!up) throw std::runtime_error("the Consul double does not answer; see " + spawn.output);
}

std::vector<std::string> ConsulServer::with(const std::string& service, const std::string& id,
                                            const std::string& address, int port) {
  return {"--register", registration(service, id, address, port, "passing").dump()};
}

ConsulServer::Json ConsulServer::control(const std::string& method, const std::string& path, const Json& body) {
  const std::string answer =
      ask({.unix_socket = where_.folder + "/control.sock"}, method, "http://localhost" + path, body);
  return answer.empty() ? Json() : Json::parse(answer);
}

void ConsulServer::write(const std::string& path, const Json& body) {
  if (real_) {
    ask({}, "PUT", url_ + path, body);
  } else {
    ask({.unix_socket = socket()}, "PUT", "http://localhost" + path, body);
  }
}

void ConsulServer::add(const std::string& service, const std::string& id, const std::string& address, int port,
                       const std::string& status, const Json& more) {
  Json body = registration(service, id, address, port, status);
  body.update(more);
  if (real_ && std::ranges::find(ids_, id) == ids_.end()) ids_.push_back(id);
  write("/v1/agent/service/register", body);
}

void ConsulServer::remove(const std::string& id) {
  std::erase(ids_, id);
  write("/v1/agent/service/deregister/" + id);
}

void ConsulServer::set_status(const std::string& id, const std::string& status) {
  const std::string verb = status == "passing" ? "pass" : status == "warning" ? "warn" : "fail";
  write("/v1/agent/check/" + verb + "/check-" + id);
}

void ConsulServer::maintain(const std::string& id, bool on) {
  write((id.empty() ? "/v1/agent/maintenance" : "/v1/agent/service/maintenance/" + id) +
        (on ? "?enable=true" : "?enable=false"));
}

}  // namespace mesh::test
