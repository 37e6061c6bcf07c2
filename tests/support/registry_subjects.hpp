// SPDX-License-Identifier: Apache-2.0
// Registries on trial: each with the service "orders", and the ways in which its kind can fail.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/identify_server.hpp"
#include "tests/support/lab.hpp"

namespace mesh::test {

using Servers = std::vector<int>;  // "web1" is 1

inline const Servers kOlder = {1, 2};  // an older state of the registry
inline const Servers kNewer = {2, 3};
inline const Servers kNobody = {};

/// Where everything of one trial is.
struct Stage {
  Lab lab;
  Host& node = lab.add_host("node");
  std::vector<Host*> webs;
  std::vector<std::unique_ptr<IdentifyServer>> servers;
  Host& registry;

  Stage() : registry(add_servers()) {}
  [[nodiscard]] std::string ip(int server) const { return webs[static_cast<std::size_t>(server - 1)]->v4(); }
  std::string folder(const std::string& name) {
    std::filesystem::create_directories(lab.folder() / name);
    return lab.folder() / name;
  }

 private:
  Host& add_servers() {
    for (const char* const name : {"web1", "web2", "web3"}) {
      webs.push_back(&lab.add_host(name));
      servers.push_back(std::make_unique<IdentifyServer>(lab, *webs.back()));
    }
    return lab.add_host("registry");
  }
};

struct Fault {
  std::string name;
  std::string why_not{};  ///< The protocol has no such thing.
  std::function<void()> strike{};
  std::function<void()> mend{};
  std::string state = "stale";  ///< What status has to say meanwhile ...
  std::string says{};           ///< ... with this in its error.
  Servers during = kNewer;      ///< Who answers meanwhile.
};

/// A registry with the service "orders".
class Subject {
 public:
  virtual ~Subject() = default;
  [[nodiscard]] virtual std::string body() const = 0;  ///< Of meshd.yaml.
  [[nodiscard]] virtual std::string service() const { return "orders"; }
  virtual void set(const Servers& servers) = 0;
  /// What is there now is the older state to return to.
  virtual void remember() {}
  virtual std::vector<Fault> faults() = 0;
  virtual void stop() = 0;
  /// After stop(), with what it had before.
  virtual void start() = 0;
};
struct Kind {
  std::string name;
  std::function<std::string()> unavailable;
  std::function<std::unique_ptr<Subject>(Stage&)> make;
};

const std::vector<Kind>& registry_kinds();

}  // namespace mesh::test
