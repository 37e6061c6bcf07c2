// SPDX-License-Identifier: Apache-2.0
#include "tests/support/relay.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

namespace mesh::test {

std::string hostile_clients() { return MESH_SOURCE_DIR "/tests/support/hostile_tls.py"; }

std::string tls_backend() { return MESH_SOURCE_DIR "/tests/support/tls_backend.py"; }
std::string mesh_peer() { return MESH_SOURCE_DIR "/tests/support/mesh_peer.py"; }

RelayProcess::RelayProcess(Lab& lab, const Host& host, const Agent& agent, std::string name)
    : lab_(lab),
      host_(host),
      name_(std::move(name)),
      program_(built_program("meshd")),
      socket_(std::filesystem::path(agent.socket()).parent_path() / "relay.sock") {}

void RelayProcess::start() {
  process_ = Process::start(lab_.on(host_, name_, name_ + ".log"),
                            {program_, "relay", "--socket", socket_, "--state-dir",
                             (lab_.folder() / (name_ + "-state")).string(), "--loop", loop_});
}

void RelayProcess::start_successor() {
  earlier_ = std::move(process_);
  start();
}

std::uint64_t RelayProcess::resident_bytes() const {
  std::ifstream file("/proc/" + std::to_string(pid()) + "/statm");
  std::uint64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::string RelayProcess::log() const {
  std::ifstream file(lab_.folder() / (name_ + ".log"));
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace mesh::test
