// SPDX-License-Identifier: Apache-2.0
#include "tests/support/relay.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
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
  std::vector<std::string> argv;
  if (descriptors_ != 0) argv = {"prlimit", "--nofile=" + std::to_string(descriptors_)};
  const std::string state = lab_.folder() / (name_ + "-state");
  for (const std::string& word : {program_, std::string("relay"), std::string("--socket"), socket_,
                                  std::string("--state-dir"), state, std::string("--loop"), loop_}) {
    argv.push_back(word);
  }
  process_ = Process::start(lab_.on(host_, name_, name_ + ".log"), argv);
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

std::size_t RelayProcess::descriptors() const {
  const std::filesystem::directory_iterator folder("/proc/" + std::to_string(pid()) + "/fd");
  return static_cast<std::size_t>(std::distance(begin(folder), end(folder)));
}

std::chrono::milliseconds RelayProcess::cpu_time() const {
  std::ifstream file("/proc/" + std::to_string(pid()) + "/stat");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  std::int64_t user = 0, system = 0;
  fields >> user >> system;
  return std::chrono::milliseconds((user + system) * 1000 / ::sysconf(_SC_CLK_TCK));
}

std::string RelayProcess::log() const {
  std::ifstream file(lab_.folder() / (name_ + ".log"));
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace mesh::test
