// SPDX-License-Identifier: Apache-2.0
#include "tests/support/xds_double.hpp"

#include <unistd.h>

#include <stdexcept>

#include "base/fd.hpp"
#include "http/fetch.hpp"
#include "tests/support/peer.hpp"

namespace mesh::test {

using namespace std::chrono_literals;

namespace {

constexpr const char* kPython = "/usr/bin/python3";  // the one that has Debian's modules

void write_text(const std::string& path, const std::string& text) {
  if (const auto written = base::write_file_atomically(path, text); !written) {
    throw std::runtime_error(written.error().to_string());
  }
}

}  // namespace

std::string python_grpc_unavailable() {
  static const std::string reason = [] {
    if (!have_program("protoc")) return "there is no protoc: scripts/setup";
    const Output tried = run({kPython, "-c", "import grpc, google.protobuf"});
    return tried.code == 0 ? "" : "python3-grpcio or python3-protobuf is not installed: scripts/setup --interop";
  }();
  return reason;
}

XdsServer::XdsServer(Where where) : where_(std::move(where)) {
  if (where_.port == 0) where_.port = free_port();
  start();
}

std::string XdsServer::url() const {
  if (where_.address == "unix") return "unix://" + file("ads.sock");
  return (tls_ ? "grpcs://" : "grpc://") + where_.address + ":" + std::to_string(where_.port);
}

void XdsServer::use_tls(std::chrono::system_clock::time_point end, bool ask_client) {
  tls_ = true;
  ask_client_ = ask_client;
  const auto later = std::chrono::system_clock::now() + 24h;
  if (!authority_) authority_ = make_authority("xds double", later);
  const CertificatePem server = make_certificate_for("IP:" + where_.address, end, &*authority_);
  const CertificatePem client = make_certificate_for("DNS:meshd", later, &*authority_);
  write_text(file("ca.pem"), authority_->certificate);
  write_text(file("cert.pem"), server.certificate);
  write_text(file("key.pem"), server.key);
  write_text(file("client.pem"), client.certificate);
  write_text(file("client-key.pem"), client.key);
}

void XdsServer::start(const Json& state) {
  process_.reset();
  ::unlink(file("control.sock").c_str());
  ::unlink(file("ads.sock").c_str());
  const std::string listen =
      where_.address == "unix" ? "unix:" + file("ads.sock") : where_.address + ":" + std::to_string(where_.port);
  std::vector<std::string> arguments = {
      kPython,           std::string(MESH_SOURCE_DIR) + "/tests/doubles/xds_double.py",
      "--listen",        listen,
      "--control",       file("control.sock"),
      "--protos",        std::string(MESH_SOURCE_DIR) + "/agent",
      "--first-version", std::to_string(first_version_)};
  const auto add = [&](const std::string& option, const std::string& value) {
    arguments.push_back(option);
    arguments.push_back(value);
  };
  if (tls_) {
    add("--cert", file("cert.pem"));
    add("--key", file("key.pem"));
    if (ask_client_) add("--ca", file("ca.pem"));
  }
  if (token_) add("--token", *token_);
  if (!state.is_null()) {
    write_text(file("state.json"), state.dump());
    add("--state", file("state.json"));
  }
  SpawnOptions spawn = where_.spawn;
  spawn.output = file("double.log");
  process_ = Process::start(spawn, arguments);
  const bool up = eventually(30s, [&] {
    try {
      stats();
      return true;
    } catch (const std::runtime_error&) {
      return false;
    }
  });
  if (!up) throw std::runtime_error("the xDS double does not answer; see " + spawn.output);
}

XdsServer::Json XdsServer::control(const std::string& method, const std::string& path, const Json& body) {
  http::Fetcher fetcher({.unix_socket = file("control.sock")});
  const auto answer = fetcher.fetch({.method = method,
                                     .url = "http://localhost" + path,
                                     .body = body.is_null() ? "" : body.dump(),
                                     .deadline = 120s,
                                     .no_progress = 120s},
                                    -1);
  if (!answer) throw std::runtime_error(answer.error().to_string());
  if (!answer->ok()) throw std::runtime_error(http::status_error(*answer, method + " " + path).to_string());
  return Json::parse(answer->body);
}

}  // namespace mesh::test
